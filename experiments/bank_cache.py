"""Embeddings of a data set, kept beside it under the hash of the encoder."""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from data_pipelines.catalogue import Catalogue
from experiments.embeddings import AUDIO, CatalogueEmbedder, EmbeddingBank
from experiments.hashing import hash_tree
from experiments.row_cache import Header, RowCache
from marssep_jax.config import EncoderConfig, FrontendConfig, to_dict
from marssep_jax.encoders.backbones import backbones_of, digests_of, without_frozen
from marssep_jax.types import Params

SAMPLED_ROWS = 128
"""Clips of a split whose samples are hashed; those of a large one take too long."""
POOLING = ("pooling", "pooling_rank")
"""Settings of an encoder that only matter once there are embeddings."""


def bank_cache(
    directory: pathlib.Path,
    catalogue: Catalogue,
    config: EncoderConfig,
    frontend: FrontendConfig,
    params: Params,
) -> RowCache:
    """Return where an encoder's embeddings of a data set lie; nothing is written.

    Args:
      directory: the data set's folder.
      catalogue: the data set.
      config: the encoder's settings.
      frontend: the front end it hears through.
      params: its parameters.
    """
    name = encoder_fingerprint(config, frontend, params)
    counts = {"text": len(catalogue.texts), "image": len(catalogue.images)}
    counts |= {AUDIO + split: len(clips) for split, clips in catalogue.clips.items()}
    header = Header(
        kind="embeddings",
        encoder=name,
        data=data_fingerprint(catalogue),
        tables={table: (rows, config.embed_dim) for table, rows in counts.items()},
    )
    return RowCache(directory / f"embeddings_{name}", header)


def fill_bank(
    cache: RowCache,
    embed: CatalogueEmbedder,
    params: Params,
    catalogue: Catalogue,
    *,
    shard: int = 0,
    shards: int = 1,
    on_batch: Callable[[int], None] | None = None,
) -> None:
    """Embed what is not there.

    Args:
      cache: of `bank_cache`.
      embed: of `experiments.compiled.embedder`.
      params: the encoder's parameters.
      catalogue: the data set.
      shard: the share of the work to do, from 0.
      shards: how many shares there are.
      on_batch: hears how many rows each batch had.

    Raises:
      ValueError: embeddings of another encoder or of other data are there.
      OSError: no room, or no permission.
    """
    params = jax.device_put(params)
    for table in cache.header.tables:
        compute = functools.partial(
            embed.rows, params, catalogue, table, on_batch=on_batch
        )
        cache.fill(table, compute, shard, shards)


def read_bank(cache: RowCache) -> EmbeddingBank:
    """Read a complete cache.

    Raises:
      ValueError: embeddings of another encoder or of other data, or not all of them.
    """
    tables = {table: cache.read(table) for table in cache.header.tables}
    text, image = tables.pop("text"), tables.pop("image")
    audio = {name.removeprefix(AUDIO): rows for name, rows in tables.items()}
    return EmbeddingBank(text, audio, image)


def encoder_fingerprint(
    config: EncoderConfig, frontend: FrontendConfig, params: Params
) -> str:
    """Return a short hash of all that an encoder's embeddings depend on.

    Published trunks count by their contents, not by their folder's name, and are not
    read for it. An encoder that brings a front end of its own only takes the rate of
    the given one.
    """
    silent = (*POOLING, *(backbone.field for backbone in backbones_of(config)))
    described: dict[str, Any] = {
        "encoder": {k: v for k, v in to_dict(config).items() if k not in silent},
        "backbones": digests_of(config),
        "rate_hz": frontend.sample_rate_hz,
    }
    if config.architecture == "small":  # whole clips are embedded, not crops
        described["grid"] = to_dict(frontend) | {"num_samples": None}
    trained = without_frozen(config, params)
    return hash_tree(json.dumps(described, sort_keys=True), trained)


def data_fingerprint(catalogue: Catalogue) -> str:
    """Return a short hash of what a data set holds.

    Of clips and pictures some are looked at, at even distances: reading all of a large
    data set would take minutes.
    """
    described: tuple[Any, ...] = (
        catalogue.dataset,
        catalogue.description.get("version"),
        catalogue.sample_rate_hz,
        catalogue.texts,
        sorted(catalogue.clip_id.items()),
        catalogue.image_label.tolist(),
    )
    digest = hashlib.sha256(repr(described).encode())
    for name, values in (*sorted(catalogue.clips.items()), ("", catalogue.images)):
        count = min(len(values), SAMPLED_ROWS)
        chosen = np.linspace(0, max(len(values) - 1, 0), count).astype(int)
        digest.update(f"{name} {values.shape} {values.dtype}".encode())
        digest.update(np.asarray(values[chosen]).tobytes())
    return digest.hexdigest()[:16]
