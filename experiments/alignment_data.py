"""Where alignment stages get their batches: clips as they are drawn, or features.

A trunk that is frozen gives the same features again and again. Where all are, those
of every clip are computed once, a few augmented views of each, and a stage goes over
them in seconds; where only the text's are, captions are looked up and clips live.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from data_pipelines.catalogue import Catalogue
from experiments.batching import in_batches
from experiments.clips import Tables, make_tables, to_alignment_batch
from experiments.embeddings import INT16_SCALE
from experiments.settings import Settings
from marssep_jax.alignment import AlignmentBatch
from marssep_jax.augment import attenuate_patches
from marssep_jax.curriculum import StageConfig, waveforms_heard
from marssep_jax.encoders import Encoder
from marssep_jax.encoders.inputs import make_inputs
from marssep_jax.features import Frontend
from marssep_jax.reconstruct import make_reconstruct
from marssep_jax.types import Params

ALIGNMENT_IDS = ("clip_id", "clip_id", "positive_id", "negative_id")
HEARD = ("audio", "view", "positive", "negative")
SWEEP_SEED = 7


class TrainingFeatures(NamedTuple):
    """Features of a split's clips in several views, of captions and of pictures.

    ``audio`` [C * V, f], V views of a clip in a row; ``text`` [M, f]; ``image``
    [I + 1, f], the last of a blank picture.
    """

    audio: np.ndarray
    text: np.ndarray
    image: np.ndarray


def clip_stream(
    settings: Settings, catalogue: Catalogue, split: str, plan: Any, **options: Any
) -> Iterator[dict[str, np.ndarray]]:
    """Draw augmented clips; ``plan`` has the batch and the residues' settings."""
    from data_pipelines.pipeline import alignment_batches  # TensorFlow

    stream = alignment_batches(
        catalogue,
        split,
        plan.batch_size,
        residue_db=plan.residue_db,
        residue_share=plan.residue_share,
        num_samples=settings.frontend.num_samples,
        gain_db=settings.data.gain_db,
        eq_db=settings.data.eq_db,
        **options,
    )
    try:
        yield from stream
    finally:
        stream.close()


def alignment_tables(
    settings: Settings, catalogue: Catalogue, encoder: Encoder, trunks: Params
) -> Tables:
    """Lay out captions and pictures as an encoder takes them.

    Args:
      settings: the config.
      catalogue: the data set.
      encoder: the whole encoder.
      trunks: its frozen ones; captions are replaced by features if theirs is one.
    """
    tables = make_tables(catalogue, make_inputs(settings.encoder))
    if "text" not in trunks:
        return tables
    return tables._replace(tokens=_features(encoder, trunks, "text", tables.tokens))


def live_batches(
    settings: Settings,
    catalogue: Catalogue,
    tables: Tables,
    stage: StageConfig,
    seed: int,
    start_step: int,
) -> Iterator[AlignmentBatch]:
    """Draw batches of waveforms for a stage."""
    heard, split = waveforms_heard(stage), settings.data.split
    options = {"seed": seed, "start_step": start_step, "heard": heard}
    for raw in clip_stream(settings, catalogue, split, settings.align, **options):
        yield to_alignment_batch(raw, tables)


def training_features(
    settings: Settings,
    catalogue: Catalogue,
    encoder: Encoder,
    frontend: Frontend,
    trunks: Params,
) -> TrainingFeatures:
    """Compute what frozen trunks make of a training split.

    Args:
      settings: the config.
      catalogue: the data set.
      encoder: the whole encoder.
      frontend: of the waveforms.
      trunks: the parameters of all trunks.
    """
    tables = make_tables(catalogue, make_inputs(settings.encoder))
    split, views = settings.data.split, settings.align.cached_views
    count = views * len(catalogue.clips[split])

    @jax.jit
    def hear(params: Params, key: jax.Array, waves: jax.Array) -> jax.Array:
        marred = masked(frontend, settings.align.masked_share, key, waves)
        return encoder.features["audio"](params, marred)

    key = jax.random.fold_in(jax.random.key(SWEEP_SEED), settings.seed)
    options = {"seed": settings.seed, "heard": ("audio",), "views": views}
    stream = clip_stream(settings, catalogue, split, settings.align, **options)
    rows, audio = 0, []
    for step, raw in enumerate(stream):
        audio.append(
            np.asarray(hear(trunks, jax.random.fold_in(key, step), raw["audio"]))
        )
        rows += len(audio[-1])
        if rows >= count:
            break
    return TrainingFeatures(
        np.concatenate(audio)[:count],
        _features(encoder, trunks, "text", tables.tokens),
        _features(encoder, trunks, "image", tables.images),
    )


def cached_batches(
    settings: Settings,
    catalogue: Catalogue,
    features: TrainingFeatures,
    stage: StageConfig,
    seed: int,
    start_step: int,
) -> Iterator[AlignmentBatch]:
    """Draw batches of features for a stage: the clips that `live_batches` draws."""
    from data_pipelines.plan import Index, generator, plan_alignment

    plan, index = settings.align, Index(catalogue, settings.data.split)
    heard, views = waveforms_heard(stage), settings.align.cached_views
    step = start_step
    while True:
        chosen = plan_alignment(index, plan.batch_size, seed, step)
        rng = generator(seed, step, 3)
        view = rng.integers(views, size=(plan.batch_size, len(HEARD)))
        # A clip and its other view are never the same one.
        view[:, 1] = (view[:, 0] + rng.integers(1, views, plan.batch_size)) % views
        arrays: dict[str, Any] = {
            name: features.audio[views * chosen[ALIGNMENT_IDS[n]] + view[:, n]]
            for n, name in enumerate(HEARD)
            if name in heard
        }
        arrays["text"] = features.text[chosen["text_id"]]
        arrays["image"] = features.image[chosen["image_id"]]  # -1 is the blank
        arrays["has_image"] = (chosen["image_id"] >= 0).astype(np.float32)
        yield AlignmentBatch(label=chosen["label"], **arrays)  # type: ignore[arg-type]
        step += 1


def clip_features(hear: Callable[[Any], Any], clips: np.ndarray) -> np.ndarray:
    """Return what a function makes of int16 clips as waveforms."""
    return in_batches(lambda rows: hear(rows * INT16_SCALE), clips, np.float32)


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


def _features(
    encoder: Encoder, trunks: Params, kind: str, values: np.ndarray
) -> np.ndarray:
    """Return what a frozen trunk makes of rows of captions or pictures."""
    run = partial(jax.jit(encoder.features[kind]), jax.device_put(trunks))
    return in_batches(run, values, values.dtype)
