"""One training stage from its settings to a model on disk; programs are thin."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax

from experiments import build, compiled, hosts
from experiments.datasets import (
    OpenedData,
    batch_ids,
    joined_licences,
    open_banks,
    open_data,
    training_batches,
    validation_manifest,
)
from experiments.embeddings import EmbeddingBank, evaluation_mixtures
from experiments.placing import evaluated_once, place_stage
from experiments.provenance import provenance, versions
from experiments.settings import Settings
from experiments.starts import Start, load_start
from experiments.watching import Evaluate, exploitation, headroom, is_exploited, watch
from marssep_jax import sharding
from marssep_jax.bundle import ModelBundle, save_bundle
from marssep_jax.checkpoint import Workdir, open_workdir
from marssep_jax.config import to_dict
from marssep_jax.evaluation import BATCH_SIZE, as_metrics, evaluate_mixtures
from marssep_jax.metric_log import MetricLog, make_progress
from marssep_jax.training import EarlyStop, TrainingResult, run
from marssep_jax.training.meters import COMPILE_S, COMPILED
from marssep_jax.types import Params


def train_stage(
    settings: Settings,
    workdir: str,
    data: OpenedData | None = None,
    start: Start | None = None,
    *,
    checkpoints: str | None = None,
    announce: Callable[..., None] = print,
) -> TrainingResult:
    """Train a stage in a workdir, or go on with it, and export ``workdir/model``.

    Args:
      settings: of `experiments.settings.resolve`.
      workdir: the folder.
      data: the data set, if the caller has it open.
      start: the models to start from, if the caller has them.
      checkpoints: folder or bucket for them; None takes the workdir's own.
      announce: prints a line.

    Raises:
      ValueError: settings, data, models or workdir that do not fit.
    """
    _check_processes(settings)
    if jax.process_index() > 0:
        announce = _say_nothing
    parts = build.make_parts(settings)
    data = data or open_data(
        settings.data, settings.frontend, settings.encoder.image_size
    )
    start = start or load_start(settings, parts)
    with open_workdir(
        workdir,
        to_dict(settings),
        provenance(),
        keep=settings.training.keep_latest,
        keep_every=settings.training.keep_every,
        checkpoints=checkpoints,
    ) as opened:
        if note := _how_it_is_left(opened):
            announce(note)
        log = MetricLog(
            opened.path, settings.name, tensorboard=settings.training.tensorboard
        )
        try:
            is_first = jax.process_index() == 0
            result = _train(
                settings,
                parts,
                data,
                start,
                announce,
                num_steps=settings.training.num_steps,
                store=opened.store,
                log=log if is_first else None,
                config=opened.config,
                progress=make_progress(settings.name) if is_first else None,
            )
        finally:
            log.close()
        trained = sharding.host_copy((result.state.params, result.state.model_state))
        if jax.process_index() == 0:
            bundle = _bundle(settings, data, start, result, trained)
            save_bundle(opened.path / "model", bundle)
            opened.complete({"step": result.step, "reason": result.reason})
    if note := exploitation(result.rows):
        announce(f"warning: {note}")
    announce(
        f"{settings.name}: {result.step} steps in {result.wall_s:.0f} s "
        f"({result.reason}), model in {workdir}/model"
    )
    return result


def _check_processes(settings: Settings) -> None:
    """Check that processes will agree on when to stop."""
    limit = settings.training.max_wall_s
    if limit and jax.process_count() > 1:
        raise ValueError(
            f"config.training.max_wall_s is {limit}, expected 0 for several processes, "
            "whose clocks differ"
        )


def _say_nothing(*_: Any) -> None:
    """Announce nothing: process 0 does."""


def compile_stage(
    settings: Settings, *, announce: Callable[..., None] = print
) -> TrainingResult:
    """Compile all that a stage will run, on this kind of device, and keep nothing else.

    One update and one evaluation are run as the stage would run them, so that JAX's
    cache holds their programs when `train_stage` wants them.

    Args:
      settings: of `experiments.settings.resolve`.
      announce: prints a line.

    Raises:
      ValueError: settings, data or models that do not fit.
    """
    parts = build.make_parts(settings)
    data = open_data(settings.data, settings.frontend, settings.encoder.image_size)
    start = load_start(settings, parts)
    result = _train(settings, parts, data, start, announce, num_steps=1)
    cost = result.rows[-1]
    announce(
        f"{settings.name}: {cost[COMPILED]:.0f} programs compiled or read from the "
        f"cache in {cost[COMPILE_S]:.1f} s, the first update after "
        f"{result.wall_s:.1f} s; nothing was trained"
    )
    return result


def _how_it_is_left(opened: Workdir) -> str | None:
    """Say whether a run had ended, and whether its end is still there."""
    ended = opened.completed_step()
    if ended is None:
        return None
    if ended in opened.store.steps():
        return f"{opened.path} is complete: nothing is trained again"
    return (
        f"warning: {opened.path} is complete, but its checkpoint of step {ended} is "
        "gone: what is missing is trained again"
    )


def _train(
    settings: Settings,
    parts: build.Parts,
    data: OpenedData,
    start: Start,
    announce: Callable[..., None],
    **options: Any,
) -> TrainingResult:
    plan = settings.training
    with hosts.first_alone("embeddings"):
        banks = open_banks(settings, data, start)
    key = jax.random.key(settings.seed)
    params = start.separator or parts.separator.init(key, settings.frontend)
    stage = place_stage(settings, parts, start.reward.params, key, params)
    evaluate = _make_validation(settings, data, start, banks.query)
    if stage.limits is not None:
        batches = training_batches(settings, data.catalogue, banks, 0)
        with contextlib.closing(batches):
            batch = next(batches)
        announce(headroom(stage.limits(stage.state, batch)))
        evaluate = watch(evaluate, stage, batch)
    return run(
        state=stage.state,
        update=stage.update,
        batches=lambda step: training_batches(settings, data.catalogue, banks, step),
        evaluate=evaluated_once(evaluate),
        log_every=plan.log_every,
        eval_every=plan.eval_every,
        save_every=plan.save_every,
        early_stop=EarlyStop(plan.patience) if plan.patience else None,
        stop_if=is_exploited if settings.rl.stop_exploitation else None,
        max_wall_s=plan.max_wall_s or None,
        max_skipped=plan.max_skipped,
        describe=lambda number: batch_ids(settings, data.catalogue, number),
        **options,
    )


def _make_validation(
    settings: Settings, data: OpenedData, start: Start, bank: EmbeddingBank
) -> Evaluate | None:
    """Build the evaluation on validation mixtures, asked in words."""
    if not settings.data.num_validation:
        return None
    manifest = validation_manifest(settings, data.catalogue)
    mixtures = list(evaluation_mixtures(manifest, data.catalogue, bank))
    separate = compiled.separation(
        settings.separator, settings.frontend, settings.frontend.num_samples
    )
    judge = compiled.make_judge_fn(
        start.judge_config,
        start.judge_params,
        settings.frontend,
        len(data.catalogue.class_names),
    )

    def evaluate(state: Any) -> dict[str, float]:
        found = evaluate_mixtures(
            lambda mixture, query: separate(
                state.params, state.model_state, mixture, query
            )[0],
            judge,
            mixtures,
            kinds=("text",),
            batch_size=min(BATCH_SIZE, len(mixtures)),
            bss=0,
        )
        return as_metrics(found)

    return evaluate


def _bundle(
    settings: Settings,
    data: OpenedData,
    start: Start,
    result: TrainingResult,
    trained: tuple[Params, Params],
) -> ModelBundle:
    sections = ("frontend", "separator")
    return ModelBundle(
        config={
            **{name: to_dict(getattr(settings, name)) for name in sections},
            "encoder": to_dict(start.query.config),
            "policy": to_dict(settings.policy) if settings.stage == "policy" else None,
            "judge": start.judge_config,
            "class_names": list(data.catalogue.class_names),
            "step": int(result.state.step),
            "stage": settings.stage,
            "licence": joined_licences(data.catalogue),
            "versions": versions(),
        },
        separator_params=trained[0],
        model_state=trained[1],
        encoder_params=jax.device_get(start.query.params),
        judge_params=jax.device_get(start.judge_params),
    )
