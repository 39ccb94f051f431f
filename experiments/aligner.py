"""The encoder's alignment, stage by stage, on whatever `Encoder` a config names.

Trunks that are frozen are left out of what is trained, of optimiser and checkpoints:
a stage on ImageBind moves heads of a few million numbers.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from data_pipelines.catalogue import Catalogue
from experiments import alignment_data, build
from experiments.alignment_scores import (
    ValidationMixtures,
    forgotten,
    mixture_gap,
    recall_metrics,
    validation_mixtures,
)
from experiments.compiled import embedder
from experiments.datasets import OpenedData, validation_manifest
from experiments.embeddings import EmbeddingBank
from experiments.frozen_features import frozen_features
from experiments.schedules import rise_and_fall
from experiments.settings import Settings
from experiments.stage_run import run_stage
from marssep_jax.alignment import AlignmentBatch, make_alignment_update, trainable_only
from marssep_jax.augment import attenuate_patches
from marssep_jax.checkpoint import Workdir
from marssep_jax.curriculum import StageConfig, joint_stage, paper_stages
from marssep_jax.encoders import Encoder
from marssep_jax.encoders.backbones import frozen_parts
from marssep_jax.encoders.contract import KINDS, over_features
from marssep_jax.state import create_state
from marssep_jax.training import TrainingResult
from marssep_jax.types import Params

BLENDS = (0.75, 0.5, 0.25, 0.0)
"""How much of a stage is kept, in turn, where it made the encoder forget."""

Scores = dict[str, float]


def planned_stages(settings: Settings) -> list[tuple[StageConfig, int]]:
    """Return the stages of a config, each with its steps; those without are out."""
    plan, losses = settings.align, settings.align_loss
    if plan.schedule == "joint":
        return [(joint_stage(plan.heads_only, losses), sum(plan.num_steps))]
    with_second = plan.num_steps[1] > 0
    stages = paper_stages(plan.heads_only, losses, with_second=with_second)
    pairs = zip(stages, plan.num_steps, strict=True)
    return [(stage, steps) for stage, steps in pairs if steps]


class Material(NamedTuple):
    """What stages train on and are scored by.

    Attributes:
      encoder: over what batches hold.
      batches: ``(stage, seed, start step) -> batches``.
      scores: parameters of the encoder without frozen trunks -> scores.
      hear: what stands before the audio trunk in training; None where features do.
    """

    encoder: Encoder
    batches: Callable[[StageConfig, int, int], Iterator[AlignmentBatch]]
    scores: Callable[[Params], Scores]
    hear: Callable[..., Any] | None


class Alignment(NamedTuple):
    """An aligned encoder: all its parameters and the pooling's, and its stages."""

    params: Params
    results: list[TrainingResult]


def align(
    settings: Settings,
    parts: build.Parts,
    data: OpenedData,
    opened: Workdir,
    announce: Callable[..., None],
) -> Alignment:
    """Run the stages of a config in a workdir, or go on with them.

    Args:
      settings: the config.
      parts: of `experiments.build.make_parts`.
      data: the data set.
      opened: the workdir.
      announce: prints a line.

    Raises:
      ValueError: published weights or data that do not fit.
    """
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    params = build.init_encoder(key, parts, settings.encoder)
    encoder = params["encoder"]
    frozen = KINDS if settings.align.heads_only else frozen_parts(settings.encoder)
    trunks = {name: encoder[name] for name in frozen}
    learning = {
        "encoder": {name: encoder[name] for name in encoder if name not in trunks},
        "fusion": params["fusion"],
    }
    make = _cached if set(trunks) >= set(KINDS) else _live
    material = make(settings, parts, data, trunks)
    results: list[TrainingResult] = []
    planned = planned_stages(settings)
    # Before a first stage there is nothing to forget but what was published.
    begins_late = bool(planned) and planned[0][0].earlier > 0
    scores = material.scores(learning["encoder"]) if begins_late else {}
    for number, (stage, steps) in enumerate(planned):
        job = _Job(settings, parts, opened, material, number, stage, steps)
        result = _train(job, learning)
        found = _remember(settings, material, stage, learning, scores, result)
        if found.note:
            announce(found.note)
        learning, scores = found.params, found.scores
        results.append(found.result)
    whole = {**trunks, **learning["encoder"]}
    return Alignment({"encoder": whole, "fusion": learning["fusion"]}, results)


class _Job(NamedTuple):
    """One stage and all that it needs."""

    settings: Settings
    parts: build.Parts
    opened: Workdir
    material: Material
    number: int
    stage: StageConfig
    steps: int


def _train(job: _Job, params: Params) -> TrainingResult:
    """Run one stage; it leaves the parameters it starts from alone."""
    settings, parts, opened, material, number, stage, steps = job
    plan, seed = settings.align, 10 * settings.seed + number
    tx = trainable_only(
        build.make_optimiser(rise_and_fall(plan, steps)), stage.trainable
    )
    update = make_alignment_update(
        material.encoder, parts.fusion, stage, tx, material.hear
    )
    key = jax.random.fold_in(jax.random.key(settings.seed), 2 + number)
    return run_stage(
        opened,
        stage.name,
        create_state(key, jax.tree.map(np.array, params), {}, tx),
        update,
        partial(material.batches, stage, seed),
        steps,
        plan.log_every,
        lambda state: material.scores(state.params["encoder"]),
        tensorboard=settings.training.tensorboard,
    )


class _Remembered(NamedTuple):
    result: TrainingResult
    params: Params
    scores: Scores
    note: str


def _remember(
    settings: Settings,
    material: Material,
    stage: StageConfig,
    before: Params,
    scores: Scores,
    result: TrainingResult,
) -> _Remembered:
    """Go back towards a stage's start until no earlier stage is forgotten.

    Weights between start and end of a stage mostly do what both do; which share of
    the way is kept is in the row's ``align/kept_share``.
    """
    limit, params, kept = settings.align.forgetting, result.state.params, 1.0
    found = {k: v for k, v in result.rows[-1].items() if k.startswith("eval/")}
    lost = forgotten(scores, found, stage.earlier, limit)
    for kept in BLENDS if lost else ():
        params = jax.tree.map(
            lambda a, b, k=kept: a + k * (b - a), before, result.state.params
        )
        found = material.scores(params["encoder"])
        if not forgotten(scores, found, stage.earlier, limit):
            break
    note = (
        f"{stage.name}: {lost} fell by more than {limit:.0%}: {kept:.0%} of the stage "
        "is kept"
    )
    last = {**result.rows[-1], **found, "align/kept_share": kept}
    rows = [*result.rows[:-1], last]
    return _Remembered(result._replace(rows=rows), params, found, note if lost else "")


def _mixtures(settings: Settings, catalogue: Catalogue) -> ValidationMixtures:
    count = max(1, settings.data.num_validation)
    few = dataclasses.replace(settings.data, num_validation=count)
    small = dataclasses.replace(settings, data=few)
    return validation_mixtures(validation_manifest(small, catalogue), catalogue)


def _live(
    settings: Settings, parts: build.Parts, data: OpenedData, trunks: Params
) -> Material:
    """Draw waveforms; frozen trunks of captions are looked up."""
    catalogue, split = data.catalogue, settings.data.validation_split
    tables = alignment_data.alignment_tables(settings, catalogue, parts.encoder, trunks)
    embed = embedder(settings.encoder, settings.frontend)
    audio = jax.jit(parts.encoder.audio)
    mixtures = _mixtures(settings, catalogue)

    def scores(params: Params) -> Scores:
        whole = {**trunks, **params}
        bank = embed(whole, catalogue, (split,))
        heard = mixtures.heard(partial(audio, whole))
        return recall_metrics(bank, catalogue, split) | mixture_gap(heard, bank.text)

    def hear(key: jax.Array, waveform: jax.Array) -> jax.Array:
        """Analyse clips as if something had been masked out of them."""
        log_mag = parts.frontend.analyse(waveform).log_mag
        share = settings.align.masked_share
        return attenuate_patches(key, log_mag, share) if share else log_mag

    return Material(
        over_features(parts.encoder, trunks),
        partial(alignment_data.live_batches, settings, catalogue, tables),
        scores,
        hear,
    )


def _cached(
    settings: Settings, parts: build.Parts, data: OpenedData, trunks: Params
) -> Material:
    """Compute the features of frozen trunks once and train heads on them."""
    catalogue, split = data.catalogue, settings.data.validation_split
    mixtures = _mixtures(settings, catalogue)
    features = frozen_features(
        settings, parts, catalogue, mixtures, trunks, data.directory
    )
    heads = {kind: jax.jit(head) for kind, head in parts.encoder.heads.items()}

    def scores(params: Params) -> Scores:
        def see(kind: str, rows: np.ndarray) -> np.ndarray:
            return np.asarray(heads[kind](params, rows))

        text, image = see("text", features.text), see("image", features.image[:-1])
        bank = EmbeddingBank(text, {split: see("audio", features.clips)}, image)
        heard = features.mixtures._replace(
            target=see("audio", features.mixtures.target),
            mixture=see("audio", features.mixtures.mixture),
        )
        return recall_metrics(bank, catalogue, split) | mixture_gap(heard, text)

    return Material(
        over_features(parts.encoder),
        partial(alignment_data.cached_batches, settings, catalogue, features),
        scores,
        None,
    )
