"""One training of a listener inside its workdir: rows, checkpoints, progress."""

from collections.abc import Callable, Iterator
from typing import Any

from marssep_jax.checkpoint import CheckpointStore, Workdir
from marssep_jax.metric_log import MetricLog, make_progress
from marssep_jax.training import TrainingResult, run


def run_stage(
    opened: Workdir,
    name: str,
    state: Any,
    update: Callable[..., Any],
    batches: Callable[[int], Iterator[Any]],
    num_steps: int,
    log_every: int,
    evaluate: Callable[[Any], dict[str, float]],
    *,
    tensorboard: bool,
) -> TrainingResult:
    """Train until the steps are done, or go on; see `marssep_jax.training.run`."""
    log = MetricLog(opened.path, name, tensorboard=tensorboard)
    try:
        # Its own folder: every stage has a state of its own shape.
        folder, origin = opened.path / "checkpoints" / name, opened.store.provenance
        with CheckpointStore(folder, keep=1, provenance=origin) as store:
            return run(
                state=state,
                update=update,
                batches=batches,
                num_steps=num_steps,
                store=store,
                log=log,
                config=opened.config,
                evaluate=evaluate,
                log_every=log_every,
                progress=make_progress(name),
            )
    finally:
        log.close()
