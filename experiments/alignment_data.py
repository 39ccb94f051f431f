"""Where alignment stages get their batches: clips as they are drawn, or features.

A trunk that is frozen gives the same features again and again. Where all are, those
of every clip are computed once, a few augmented views of each, and a stage goes over
them in seconds; where only the text's are, captions are looked up and clips live.
"""

from collections.abc import Iterator
from functools import partial

import jax
import numpy as np

from data_pipelines.catalogue import Catalogue
from experiments.batching import in_batches
from experiments.clips import (
    HEARD,
    Tables,
    clip_stream,
    make_tables,
    to_alignment_batch,
)
from experiments.frozen_features import Features
from experiments.settings import Settings
from marssep_jax.alignment import AlignmentBatch
from marssep_jax.curriculum import StageConfig, waveforms_heard
from marssep_jax.encoders import Encoder
from marssep_jax.encoders.inputs import make_inputs
from marssep_jax.types import Params

CLIP_IDS = ("clip_id", "clip_id", "positive_id", "negative_id")
"""Which clip each of `HEARD` is, as a plan calls it."""


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


def cached_batches(
    settings: Settings,
    catalogue: Catalogue,
    features: Features,
    stage: StageConfig,
    seed: int,
    start_step: int,
) -> Iterator[AlignmentBatch]:
    """Draw batches of features for a stage: the clips that `live_batches` draws."""
    from data_pipelines.plan import Index, generator, plan_alignment

    plan, index = settings.align, Index(catalogue, settings.data.split)
    heard, views = waveforms_heard(stage), settings.align.cached_views
    tables = Tables(features.text, features.image)
    step = start_step
    while True:
        chosen = plan_alignment(index, plan.batch_size, seed, step)
        rng = generator(seed, step, 3)
        view = rng.integers(views, size=(plan.batch_size, len(HEARD)))
        # A clip and its other view are never the same one.
        view[:, 1] = (view[:, 0] + rng.integers(1, views, plan.batch_size)) % views
        audio = {
            name: features.audio[views * chosen[CLIP_IDS[n]] + view[:, n]]
            for n, name in enumerate(HEARD)
            if name in heard
        }
        yield to_alignment_batch(chosen | audio, tables)
        step += 1


def _features(
    encoder: Encoder, trunks: Params, kind: str, values: np.ndarray
) -> np.ndarray:
    """Return what a frozen trunk makes of rows of captions or pictures."""
    run = partial(jax.jit(encoder.features[kind]), jax.device_put(trunks))
    return in_batches(run, values, values.dtype)
