"""Train who listens: the reward's encoder in three stages, and the held-out judge.

They share a workdir and a model folder and nothing else: the judge has clips, a
seed, an architecture and an objective of its own, and no stage hears it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from data_pipelines.catalogue import Catalogue
from experiments import build
from experiments.clips import make_tables, recall_metrics, to_alignment_batch
from experiments.compiled import embedder, judging
from experiments.datasets import OpenedData, joined_licences, open_data
from experiments.embeddings import INT16_SCALE
from experiments.provenance import provenance, versions
from experiments.settings import Settings
from experiments.stage_rows import describe
from marssep_jax.alignment import (
    AlignmentBatch,
    StageConfig,
    make_alignment_update,
    paper_stages,
    trainable_only,
    waveforms_heard,
)
from marssep_jax.augment import attenuate_patches
from marssep_jax.bundle import ModelBundle, save_bundle
from marssep_jax.checkpoint import CheckpointStore, Workdir, open_workdir
from marssep_jax.config import OptimiserConfig, to_dict
from marssep_jax.encoders import make_judge
from marssep_jax.encoders.inputs import make_inputs
from marssep_jax.judging import ClipBatch, make_judge_update
from marssep_jax.metric_log import MetricLog, make_progress
from marssep_jax.state import TrainState, create_state
from marssep_jax.training import TrainingResult, run
from marssep_jax.types import Params

SECTIONS = ("frontend", "encoder", "judge", "data", "align", "judge_training")
"""The settings that these models depend on."""


def recorded(settings: Settings) -> dict[str, Any]:
    """Return what the workdir of the listeners records."""
    sections = {name: to_dict(getattr(settings, name)) for name in SECTIONS}
    return {"seed": settings.seed, **sections}


def train_listeners(
    settings: Settings,
    workdir: str,
    data: OpenedData | None = None,
    *,
    announce: Callable[..., None] = print,
) -> list[TrainingResult]:
    """Train encoder and judge in a workdir, or go on, and export ``workdir/model``.

    Args:
      settings: of `experiments.settings.resolve`.
      workdir: the folder.
      data: the data set, if the caller has it open.
      announce: prints a line.

    Returns:
      The results of the three stages and of the judge.

    Raises:
      ValueError: settings, data or workdir that do not fit.
    """
    parts = build.make_parts(settings)
    data = data or open_data(
        settings.data, settings.frontend, settings.encoder.image_size
    )
    with open_workdir(workdir, recorded(settings), provenance()) as opened:
        if opened.is_complete():
            announce(f"{workdir} is complete: nothing is trained again")
        trainer = _Trainer(settings, parts, data.catalogue, opened)
        key = jax.random.fold_in(jax.random.key(settings.seed), 1)
        results, params = [], build.init_encoder(key, parts, settings.encoder)
        stages = paper_stages(settings.align.heads_only)
        for number, stage in enumerate(stages):
            results.append(trainer.align(number, stage, params))
            params = results[-1].state.params
        results.append(trainer.train_judge())
        if jax.process_index() == 0:
            bundle = trainer.bundle(params, results[-1].state.params)
            save_bundle(opened.path / "model", bundle)
            opened.complete({"step": sum(result.step for result in results)})
    for result in results:
        announce(describe(result))
    return results


class _Trainer:
    """What the four trainings share."""

    def __init__(
        self,
        settings: Settings,
        parts: build.Parts,
        catalogue: Catalogue,
        opened: Workdir,
    ) -> None:
        self._settings, self._parts = settings, parts
        self._catalogue, self._opened = catalogue, opened
        self._embed = embedder(settings.encoder, settings.frontend)

    def align(self, number: int, stage: StageConfig, params: Params) -> TrainingResult:
        """Run one alignment stage."""
        plan, encoder = self._settings.align, self._settings.encoder
        tables = make_tables(self._catalogue, make_inputs(encoder))
        steps = plan.num_steps[number]
        tx = trainable_only(
            build.make_optimiser(_schedule(plan, steps)), stage.trainable
        )
        update = make_alignment_update(
            self._parts.encoder, self._parts.fusion, stage, tx, self._hear
        )
        key = jax.random.fold_in(jax.random.key(self._settings.seed), 2 + number)

        heard = waveforms_heard(stage)

        def batches(step: int) -> Iterator[AlignmentBatch]:
            split, seed = self._settings.data.split, 10 * self._settings.seed + number
            for raw in self._clips(split, plan, seed, step, heard):
                yield to_alignment_batch(raw, tables)

        return self._run(
            stage.name,
            create_state(key, params, {}, tx),
            update,
            batches,
            steps,
            plan.log_every,
            lambda state: self._recall(state.params["encoder"]),
        )

    def _hear(self, key: jax.Array, waveform: jax.Array) -> jax.Array:
        """Analyse clips as if something had been masked out of them."""
        log_mag = self._parts.frontend.analyse(waveform).log_mag
        share = self._settings.align.masked_share
        return attenuate_patches(key, log_mag, share) if share else log_mag

    def train_judge(self) -> TrainingResult:
        """Train the judge on clips of every source of recordings.

        A data set that has no split of its own for it lends its training clips.
        """
        plan, clips = self._settings.judge_training, self._catalogue.clips
        split = plan.split if plan.split in clips else self._settings.data.split
        settings, num_classes = self._settings, len(self._catalogue.class_names)
        judge = make_judge(settings.judge, settings.frontend, num_classes)
        tx = build.make_optimiser(_schedule(plan, plan.num_steps))
        key = jax.random.fold_in(jax.random.key(self._settings.seed), 1_001)
        log_prob = judging(settings.judge, settings.frontend, num_classes)

        def batches(step: int) -> Iterator[ClipBatch]:
            seed = 10 * self._settings.seed + 9
            for raw in self._clips(split, plan, seed, step, ("audio",)):
                yield ClipBatch(raw["audio"], raw["label"])  # type: ignore[arg-type]

        def accuracy(state: TrainState) -> dict[str, float]:
            held_out = self._settings.data.validation_split
            heard = clips[held_out] * INT16_SCALE
            found = np.argmax(log_prob(state.params, heard), axis=-1)
            hits = found == self._catalogue.clip_label[held_out]
            return {"eval/judge_accuracy": float(np.mean(hits))}

        return self._run(
            "judge",
            create_state(key, judge.init(key), {}, tx),
            make_judge_update(judge, tx),
            batches,
            plan.num_steps,
            plan.log_every,
            accuracy,
        )

    def _clips(
        self, split: str, plan: Any, seed: int, step: int, heard: tuple[str, ...]
    ) -> Iterator[dict[str, np.ndarray]]:
        from data_pipelines.pipeline import alignment_batches  # TensorFlow

        stream = alignment_batches(
            self._catalogue,
            split,
            plan.batch_size,
            seed,
            step,
            residue_db=plan.residue_db,
            residue_share=plan.residue_share,
            num_samples=self._settings.frontend.num_samples,
            gain_db=self._settings.data.gain_db,
            eq_db=self._settings.data.eq_db,
            heard=heard,
        )
        try:
            yield from stream
        finally:
            stream.close()

    def _run(
        self,
        name: str,
        state: TrainState,
        update: Callable[..., Any],
        batches: Callable[[int], Iterator[Any]],
        num_steps: int,
        log_every: int,
        evaluate: Callable[[Any], dict[str, float]],
    ) -> TrainingResult:
        tensorboard = self._settings.training.tensorboard
        log = MetricLog(self._opened.path, name, tensorboard=tensorboard)
        try:
            # Its own folder: every stage has a state of its own shape.
            folder = self._opened.path / "checkpoints" / name
            with CheckpointStore(folder, keep=1) as store:
                return run(
                    state=state,
                    update=update,
                    batches=batches,
                    num_steps=num_steps,
                    store=store,
                    log=log,
                    config=self._opened.config,
                    evaluate=evaluate,
                    log_every=log_every,
                    progress=make_progress(name),
                )
        finally:
            log.close()

    def _recall(self, params: Params) -> dict[str, float]:
        """Measure how well validation clips, captions and pictures find each other."""
        split = self._settings.data.validation_split
        bank = self._embed(params, self._catalogue, (split,))
        return recall_metrics(bank, self._catalogue, split)

    def bundle(self, params: Params, judge_params: Params) -> ModelBundle:
        """Gather what the stages of the separator start from."""
        settings = self._settings
        return ModelBundle(
            config={
                "frontend": to_dict(settings.frontend),
                "separator": None,
                "encoder": to_dict(settings.encoder),
                "judge": to_dict(settings.judge),
                "class_names": list(self._catalogue.class_names),
                "step": sum(settings.align.num_steps),
                "stage": "align",
                "licence": joined_licences(self._catalogue),
                "versions": versions(),
            },
            separator_params=None,
            model_state=None,
            encoder_params=jax.device_get(params),
            judge_params=jax.device_get(judge_params),
        )


def _schedule(plan: Any, num_steps: int) -> OptimiserConfig:
    """Let the rate rise, and fall to the end of a stage."""
    return OptimiserConfig(
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        warmup_steps=min(plan.warmup_steps, num_steps // 2),
        decay_steps=max(1, num_steps - min(plan.warmup_steps, num_steps // 2)),
    )
