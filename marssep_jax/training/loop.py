"""The host loop of a stage: batches in, trained state and metric rows out.

Knows nothing of models: anything with ``(state, batch) -> (state, metrics)`` can
be trained. The device always has the next step queued: a batch is fetched while a
step runs, and metrics are read only where they are logged. One flag of every step,
whether it was skipped, is read a step later, when it has long arrived.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from marssep_jax import interrupts
from marssep_jax.checkpoint import CheckpointStore
from marssep_jax.metric_log import MetricLog, Progress
from marssep_jax.training.meters import Meters
from marssep_jax.training.records import (
    EarlyStop,
    Schedule,
    TrainingResult,
    check_options,
)
from marssep_jax.training.session import Batches, Evaluate, Session, StopIf, Update
from marssep_jax.training.skips import Describe, SkipCounter


def run(
    *,
    state: Any,
    update: Update,
    batches: Batches,
    num_steps: int,
    store: CheckpointStore | None = None,
    log: MetricLog | None = None,
    config: Mapping[str, Any] | None = None,
    evaluate: Evaluate | None = None,
    log_every: int = 50,
    eval_every: int = 0,
    save_every: int = 0,
    early_stop: EarlyStop | None = None,
    stop_if: StopIf | None = None,
    max_wall_s: float | None = None,
    max_skipped: int = 10,
    describe: Describe | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingResult:
    """Train until the steps, the time or the patience are used up.

    With a store that holds checkpoints, state, step, position in the data and
    rows go on from the newest; a run that had ended returns its result at once.
    SIGTERM is heard between two steps and between two batches of an evaluation: the
    state is saved as it then is, and the program left.

    Args:
      state: where to start, and the template of checkpoints.
      update: the step; it may donate its state. Where its metrics have
        ``update/skipped``, it takes care of numbers that are not finite.
      batches: ``batches(s)`` is an iterator whose first batch is number s.
      num_steps: updates in all.
      store: where checkpoints go; None keeps none.
      log: where rows go, and ``skipped.jsonl``; None keeps them in memory only.
      config: resolved settings, saved with every checkpoint.
      evaluate: state -> metrics such as ``eval/si_sdri_db``; also after the end.
      log_every: steps between two rows.
      eval_every: steps between two evaluations; 0 evaluates at the end only.
      save_every: steps between two checkpoints; 0 saves at the end only.
      early_stop: when to stop early; it restores the best state.
      stop_if: rows so far -> whether something is wrong that more steps make worse.
      max_wall_s: seconds of stepping after which to stop.
      max_skipped: skipped updates in a row that end the run; 0 is never.
      describe: number of a batch -> its ids, noted where an update is skipped.
      progress: who hears of every step.
      clock: seconds that only ever rise.

    Raises:
      ValueError: options that do not fit, too many skipped updates in a row, a loss
        or gradient that is not finite where the update lets that through, or a store
        of another run.
      SystemExit: after SIGTERM, with status 143.
    """
    schedule = Schedule(num_steps, log_every, eval_every, save_every)
    check_options(schedule, evaluate is not None, early_stop)
    folder, stage = (None, "") if log is None else (log.path.parent, log.stage)
    skips = SkipCounter(folder, stage, max_skipped, describe)
    settings = dict(config or {})
    with interrupts.termination_waits(), Meters(clock) as meters:
        session = Session(
            state, schedule, store, log, settings, evaluate, early_stop,
            max_wall_s, skips, meters, progress, clock, stop_if,
        )  # fmt: skip
        try:
            session.resume()
            return session.finish(session.go(update, batches))
        finally:
            if progress is not None:
                progress.close()
            if store is not None:
                store.wait()
