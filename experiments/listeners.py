"""Train who listens: the reward's encoder in its stages, and the held-out judge.

They share a workdir and a model folder and nothing else: the judge has clips, a
seed, an architecture and an objective of its own, and no stage hears it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from data_pipelines.catalogue import Catalogue
from experiments import build
from experiments.aligner import align
from experiments.clips import clip_stream
from experiments.compiled import judging
from experiments.datasets import OpenedData, joined_licences, open_data
from experiments.embeddings import INT16_SCALE
from experiments.provenance import provenance, versions
from experiments.schedules import rise_and_fall
from experiments.settings import Settings
from experiments.stage_rows import describe
from experiments.stage_run import run_stage
from marssep_jax.bundle import ModelBundle, save_bundle
from marssep_jax.checkpoint import Workdir, open_workdir
from marssep_jax.config import to_dict
from marssep_jax.encoders import make_judge
from marssep_jax.judging import ClipBatch, make_judge_update
from marssep_jax.state import TrainState, create_state
from marssep_jax.training import TrainingResult
from marssep_jax.types import Params

SECTIONS = (
    "frontend",
    "encoder",
    "judge",
    "data",
    "align",
    "align_loss",
    "judge_training",
)
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
      The results of the alignment's stages and of the judge.

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
        aligned = align(settings, parts, data, opened, announce)
        judge = _train_judge(settings, data.catalogue, opened)
        results = [*aligned.results, judge]
        if jax.process_index() == 0:
            bundle = _bundle(
                settings, data.catalogue, aligned.params, judge.state.params
            )
            save_bundle(opened.path / "model", bundle)
            opened.complete({"step": sum(result.step for result in results)})
    for result in results:
        announce(describe(result))
    return results


def _train_judge(
    settings: Settings, catalogue: Catalogue, opened: Workdir
) -> TrainingResult:
    """Train the judge on clips of every source of recordings.

    A data set that has no split of its own for it lends its training clips.
    """
    plan, num_classes = settings.judge_training, len(catalogue.class_names)
    split = plan.split if plan.split in catalogue.clips else settings.data.split
    judge = make_judge(settings.judge, settings.frontend, num_classes)
    tx = build.make_optimiser(rise_and_fall(plan, plan.num_steps))
    key = jax.random.fold_in(jax.random.key(settings.seed), 1_001)
    log_prob = judging(settings.judge, settings.frontend, num_classes)

    def batches(step: int) -> Iterator[ClipBatch]:
        options = {"seed": 10 * settings.seed + 9, "start_step": step}
        stream = clip_stream(
            settings, catalogue, split, plan, heard=("audio",), **options
        )
        for raw in stream:
            yield ClipBatch(raw["audio"], raw["label"])  # type: ignore[arg-type]

    def accuracy(state: TrainState) -> dict[str, float]:
        held_out = settings.data.validation_split
        heard = catalogue.clips[held_out] * INT16_SCALE
        found = np.argmax(log_prob(state.params, heard), axis=-1)
        hits = found == catalogue.clip_label[held_out]
        return {"eval/judge_accuracy": float(np.mean(hits))}

    return run_stage(
        opened,
        "judge",
        create_state(key, judge.init(key), {}, tx),
        make_judge_update(judge, tx),
        batches,
        plan.num_steps,
        plan.log_every,
        accuracy,
        tensorboard=settings.training.tensorboard,
    )


def _bundle(
    settings: Settings, catalogue: Catalogue, params: Params, judge_params: Params
) -> ModelBundle:
    """Gather what the stages of the separator start from."""
    return ModelBundle(
        config={
            "frontend": to_dict(settings.frontend),
            "separator": None,
            "encoder": to_dict(settings.encoder),
            "judge": to_dict(settings.judge),
            "class_names": list(catalogue.class_names),
            "step": sum(settings.align.num_steps),
            "stage": "align",
            "licence": joined_licences(catalogue),
            "versions": versions(),
        },
        separator_params=None,
        model_state=None,
        encoder_params=jax.device_get(params),
        judge_params=jax.device_get(judge_params),
    )
