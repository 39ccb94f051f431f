"""Features of frozen trunks: computed once, kept beside the data set.

Shards that a stopped run has finished are not computed again, and stages of other
weights, rates or lengths go over the same features.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from data_pipelines.catalogue import Catalogue
from experiments import build
from experiments.alignment_scores import ValidationMixtures
from experiments.bank_cache import data_fingerprint, encoder_fingerprint
from experiments.batching import BATCH, in_batches
from experiments.clips import clip_stream, make_tables
from experiments.embeddings import INT16_SCALE
from experiments.hashing import hash_tree
from experiments.row_cache import SHARD_ROWS, Header, RowCache
from experiments.settings import Settings
from marssep_jax.augment import attenuate_patches
from marssep_jax.encoders.inputs import make_inputs
from marssep_jax.features import Frontend
from marssep_jax.reconstruct import make_reconstruct
from marssep_jax.types import Params

SWEEP_SEED = 7
assert SHARD_ROWS % BATCH == 0  # a shard begins with a batch, whoever makes it


class Features(NamedTuple):
    """What frozen trunks make of a data set.

    ``audio`` [C * V, f], V augmented views of a training clip in a row; ``text``
    [M, f]; ``image`` [I + 1, f], the last of a blank picture; ``clips`` [C', f] of
    the validation clips as they are; ``mixtures`` with features for waveforms.
    """

    audio: np.ndarray
    text: np.ndarray
    image: np.ndarray
    clips: np.ndarray
    mixtures: ValidationMixtures


def frozen_features(
    settings: Settings,
    parts: build.Parts,
    catalogue: Catalogue,
    mixtures: ValidationMixtures,
    trunks: Params,
    directory: pathlib.Path | None,
) -> Features:
    """Compute features, or read those that were computed before.

    Args:
      settings: the config.
      parts: of `experiments.build.make_parts`.
      catalogue: the data set.
      mixtures: waveforms that the stages are scored by.
      trunks: the parameters of all trunks.
      directory: the data set's folder; None keeps nothing.

    Raises:
      ValueError: features of other trunks or data are in the way.
    """
    makers = _makers(settings, parts, catalogue, mixtures, jax.device_put(trunks))
    cache = None
    if directory is not None:
        cache = _cache(settings, catalogue, trunks, directory, makers)
    found = {name: _table(cache, name, maker) for name, maker in makers.items()}
    target = found["target"].reshape(*mixtures.target.shape[:2], -1)
    heard = mixtures._replace(target=target, mixture=found["mixture"])
    names = ("audio", "text", "image", "clips")
    return Features(**{name: found[name] for name in names}, mixtures=heard)


class _Maker(NamedTuple):
    """Rows of a table, and how to make some of them."""

    num_rows: int
    dim: int
    make: Callable[[slice], np.ndarray]


def _makers(
    settings: Settings,
    parts: build.Parts,
    catalogue: Catalogue,
    mixtures: ValidationMixtures,
    trunks: Params,
) -> dict[str, _Maker]:
    tables = make_tables(catalogue, make_inputs(settings.encoder))
    features = {
        kind: partial(jax.jit(run), trunks)
        for kind, run in parts.encoder.features.items()
    }
    hear, target = features["audio"], mixtures.target
    flat = target.reshape(-1, target.shape[-1])
    clips = catalogue.clips[settings.data.validation_split]
    rows: dict[str, tuple[Callable[[Any], Any], Any, Any]] = {
        "text": (features["text"], tables.tokens, np.int32),
        "image": (features["image"], tables.images, np.uint8),
        "clips": (lambda value: hear(value * INT16_SCALE), clips, np.float32),
        "target": (hear, flat, np.float32),
        "mixture": (hear, mixtures.mixture, np.float32),
    }
    found = {}
    for name, (run, values, dtype) in rows.items():
        dim = _width(run, values, dtype)
        make = partial(_rows, run, values, dtype)
        found[name] = _Maker(len(values), dim, make)
    count = settings.align.cached_views * len(catalogue.clips[settings.data.split])
    hearing = partial(_hearing(settings, parts), trunks)
    sweep = partial(_sweep, settings, catalogue, hearing)
    return {"audio": _Maker(count, found["mixture"].dim, sweep), **found}


def _width(run: Callable[[Any], Any], values: Any, dtype: Any) -> int:
    shape = jax.ShapeDtypeStruct((1, *values.shape[1:]), dtype)
    return int(jax.eval_shape(run, shape).shape[-1])


def _rows(run: Callable[[Any], Any], values: Any, dtype: Any, rows: slice) -> Any:
    return in_batches(run, values[rows], dtype)


def _sweep(
    settings: Settings,
    catalogue: Catalogue,
    hear: Callable[[jax.Array, Any], jax.Array],
    rows: slice,
) -> np.ndarray:
    """Hear augmented views of the training clips; rows begin with a batch."""
    key = jax.random.fold_in(jax.random.key(SWEEP_SEED), settings.seed)
    stream = clip_stream(
        settings,
        catalogue,
        settings.data.split,
        dataclasses.replace(settings.align, batch_size=BATCH),
        seed=settings.seed,
        start_step=rows.start // BATCH,
        heard=("audio",),
        views=settings.align.cached_views,
    )
    found: list[np.ndarray] = []
    for step in range(rows.start // BATCH, -(-rows.stop // BATCH)):
        waves = next(stream)["audio"]
        found.append(np.asarray(hear(jax.random.fold_in(key, step), waves)))
    stream.close()
    return np.concatenate(found)[: rows.stop - rows.start]


def _hearing(settings: Settings, parts: build.Parts) -> Callable[..., jax.Array]:
    @jax.jit
    def hear(params: Params, key: jax.Array, waves: jax.Array) -> jax.Array:
        marred = masked(parts.frontend, settings.align.masked_share, key, waves)
        return parts.encoder.features["audio"](params, marred)

    return hear


def masked(
    frontend: Frontend, share: float, key: jax.Array, waveform: jax.Array
) -> jax.Array:
    """Mask patches out of waveforms [b, t], as a separator might."""
    if not share:
        return waveform
    features = frontend.analyse(waveform)
    turned_down = attenuate_patches(key, features.log_mag, share)
    mask = jax.numpy.exp(turned_down - features.log_mag)
    reconstruct = make_reconstruct(frontend, waveform.shape[-1])
    return reconstruct(mask[:, None], features.stft)[:, 0]


def _cache(
    settings: Settings,
    catalogue: Catalogue,
    trunks: Params,
    directory: pathlib.Path,
    makers: Mapping[str, _Maker],
) -> RowCache:
    """Return where features lie, by a hash of all that they depend on."""
    plan, data, frontend = settings.align, settings.data, settings.frontend
    described = {
        "encoder": encoder_fingerprint(settings.encoder, frontend, trunks),
        "num_samples": frontend.num_samples,
        "plan": [plan.cached_views, plan.residue_db, plan.residue_share],
        "masked": plan.masked_share,
        "data": [data.gain_db, data.eq_db, data.split, data.validation_split],
        "seed": settings.seed,
        "mixtures": data.num_validation,
    }
    name = hash_tree(json.dumps(described, sort_keys=True), {})
    header = Header(
        kind="features",
        encoder=name,
        data=data_fingerprint(catalogue),
        tables={table: (maker.num_rows, maker.dim) for table, maker in makers.items()},
        shard_rows=SHARD_ROWS,
    )
    return RowCache(directory / f"features_{name}", header)


def _table(cache: RowCache | None, name: str, maker: _Maker) -> np.ndarray:
    """Read a table, filling in what is missing; a read-only folder is done without."""
    if cache is not None:
        try:
            cache.fill(name, maker.make)
            return cache.read(name)
        except OSError:
            pass
    return maker.make(slice(0, maker.num_rows))
