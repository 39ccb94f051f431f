"""The host loop of a stage: batches in, trained state and metric rows out.

Knows nothing of models: anything with ``(state, batch) -> (state, metrics)`` can
be trained. The device always has the next step queued: a batch is fetched while a
step runs, and metrics are read only where they are logged.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from marssep_jax import interrupts
from marssep_jax.checkpoint import CheckpointStore
from marssep_jax.metric_log import MetricLog, Progress, Row, plain
from marssep_jax.training.records import (
    Best,
    EarlyStop,
    Schedule,
    TrainingResult,
    check_options,
)

Evaluate = Callable[[Any], Mapping[str, float]]
Batches = Callable[[int], Iterator[Any]]


def run(
    *,
    state: Any,
    update: Callable[[Any, Any], tuple[Any, Mapping[str, Any]]],
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
    max_wall_s: float | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> TrainingResult:
    """Train until the steps, the time or the patience are used up.

    With a store that holds checkpoints, state, step, position in the data and
    rows go on from the newest; a run that had ended returns its result at once.

    Args:
      state: where to start, and the template of checkpoints.
      update: the step; it may donate its state.
      batches: ``batches(s)`` is an iterator whose first batch is number s.
      num_steps: updates in all.
      store: where checkpoints go; None keeps none.
      log: where rows go; None keeps them in memory only.
      config: resolved settings, saved with every checkpoint.
      evaluate: state -> metrics such as ``eval/si_sdri_db``; also after the end.
      log_every: steps between two rows.
      eval_every: steps between two evaluations; 0 evaluates at the end only.
      save_every: steps between two checkpoints; 0 saves at the end only.
      early_stop: when to stop early; it restores the best state.
      max_wall_s: seconds of stepping after which to stop.
      progress: who hears of every step.
      clock: seconds that only ever rise.

    Raises:
      ValueError: options that do not fit, a loss or gradient that is not finite,
        or a store of another run.
    """
    schedule = Schedule(num_steps, log_every, eval_every, save_every)
    check_options(schedule, evaluate is not None, early_stop)
    loop = _Loop(
        state, schedule, store, log, dict(config or {}), evaluate, early_stop, clock
    )
    try:
        loop.resume()
        reason = loop.go(update, batches, max_wall_s, progress)
        return loop.finish(reason)
    finally:
        if progress is not None:
            progress.close()
        if store is not None:
            store.wait()


@dataclasses.dataclass
class _Loop:
    """The loop's variables; `position` is what a checkpoint keeps of them."""

    state: Any
    schedule: Schedule
    store: CheckpointStore | None
    log: MetricLog | None
    config: dict[str, Any]
    evaluate: Evaluate | None
    early_stop: EarlyStop | None
    clock: Callable[[], float]
    step: int = 0
    wall_s: float = 0.0
    best: Best | None = None
    stale: int = 0
    rows: list[Row] = dataclasses.field(default_factory=list)
    best_state: Any = None

    def position(self) -> dict[str, Any]:
        best = None if self.best is None else list(self.best)
        return {
            "step": self.step,
            "wall_s": self.wall_s,
            "best": best,
            "stale": self.stale,
        }

    def resume(self) -> None:
        found = None if self.store is None else self.store.restore_latest(self.state)
        if self.store is not None and found is not None:
            kept = found.position
            self.state, self.step = found.state, kept["step"]
            self.wall_s, self.stale = kept["wall_s"], kept["stale"]
            # A best step that was lost with damaged ones is found anew.
            if kept["best"] and kept["best"][0] in self.store.steps():
                self.best = Best(*kept["best"])
        if self.log is not None:
            self.log.truncate(self.step if found is not None else -1)
            self.rows = self.log.rows()

    def go(
        self,
        update: Callable[[Any, Any], tuple[Any, Mapping[str, Any]]],
        batches: Batches,
        max_wall_s: float | None,
        progress: Progress | None,
    ) -> str:
        """Take steps until there is a reason to stop; return it."""
        if self.step == 0 and self.best is None and self.early_stop is not None:
            self._conclude({}, progress)
        if reason := self._reason(max_wall_s):
            return reason
        iterator = batches(self.step)
        try:
            return self._steps(update, iterator, max_wall_s, progress)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _steps(
        self,
        update: Callable[[Any, Any], tuple[Any, Mapping[str, Any]]],
        iterator: Iterator[Any],
        max_wall_s: float | None,
        progress: Progress | None,
    ) -> str:
        last = self.clock()
        batch, before = next(iterator), None
        while True:
            interrupts.check()
            self.state, metrics = update(self.state, batch)
            self.step += 1
            if self.step < self.schedule.num_steps:
                batch = next(iterator)  # while the device works
            # One step may be under way, no more: time is then known to a step.
            jax.block_until_ready(before)
            before = metrics
            now = self.clock()
            self.wall_s, last = self.wall_s + now - last, now
            reason = self._reason(max_wall_s)
            if self._pause_due(reason):
                jax.block_until_ready(metrics)
                now = self.clock()
                self.wall_s += now - last
                self._conclude(metrics, progress, ending=bool(reason))
                if not reason and (reason := self._reason(max_wall_s)):
                    self._save()  # an evaluation has just ended it
                last = self.clock()
            elif progress is not None:
                progress(self.step, self.schedule.num_steps, {})
            if reason:
                return reason

    def _reason(self, max_wall_s: float | None) -> str:
        if self.early_stop is not None and self.stale >= self.early_stop.patience:
            return "early_stop"
        if self.step >= self.schedule.num_steps:
            return "steps"
        if max_wall_s is not None and self.wall_s >= max_wall_s:
            return "time"
        return ""

    def _pause_due(self, reason: str) -> bool:
        plan = self.schedule
        periods = (plan.log_every, plan.eval_every, plan.save_every)
        return bool(reason) or any(plan.due(self.step, every) for every in periods)

    def _conclude(
        self,
        metrics: Mapping[str, Any],
        progress: Progress | None,
        *,
        ending: bool = False,
    ) -> None:
        """Evaluate, log and save what is due at this step; at most one row."""
        values = {name: float(np.asarray(v)) for name, v in metrics.items()}
        self._require_finite(values)
        plan, improved = self.schedule, False
        evaluated = self.evaluate is not None and (
            ending or self.step == 0 or plan.due(self.step, plan.eval_every)
        )
        if self.evaluate is not None and evaluated:
            scores = dict(self.evaluate(self.state))
            values |= scores
            improved = self._judge(scores)
        row: Row = {}
        if ending or evaluated or plan.due(self.step, plan.log_every):
            row = self._log(values)
        wanted = improved and self.early_stop is not None
        if ending or wanted or plan.due(self.step, plan.save_every):
            self._save()
        if progress is not None:
            progress(self.step, plan.num_steps, row)

    def _log(self, values: Mapping[str, float]) -> Row:
        row: Row = {"step": self.step, "wall_s": self.wall_s}
        row |= {name: plain(value) for name, value in values.items()}
        if self.log is not None:
            row = self.log.write(self.step, self.wall_s, values)
        self.rows.append(row)
        return row

    def _require_finite(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            watched = name.endswith("/loss") or name.endswith("/norm")
            if watched and not math.isfinite(value):
                raise ValueError(
                    f"{name} is {value} at step {self.step}, expected a finite number: "
                    "a smaller learning rate or more clipping may help"
                )

    def _judge(self, scores: Mapping[str, float]) -> bool:
        """Note an evaluation and say whether it is the best so far."""
        rule = self.early_stop or EarlyStop()
        score = scores.get(rule.metric)
        if score is None or not math.isfinite(score):
            if self.early_stop is None:
                return False
            raise ValueError(
                f"{rule.metric} is {score} at step {self.step}, expected a finite "
                "number from evaluate"
            )
        improved = self.best is None or score > self.best.score + rule.min_delta
        self.stale = 0 if improved else self.stale + 1
        if improved:
            self.best = Best(self.step, float(score))
        return improved

    def _save(self) -> None:
        is_best = self.best is not None and self.best.step == self.step
        if self.store is not None:
            position = self.position()
            keep = None if self.best is None else self.best.step
            self.store.save(
                self.step, self.state, self.config, position, keep_step=keep
            )
        elif is_best and self.early_stop is not None:
            self.best_state = jax.tree.map(_copy, self.state)

    def finish(self, reason: str) -> TrainingResult:
        """Return the result, with the best state where that was asked for."""
        if self.early_stop is not None and self.best is not None:
            if self.best.step != self.step and self.store is not None:
                self.store.wait()
                self.state = self.store.restore(self.best.step, self.state).state
            elif self.best.step != self.step:
                self.state = self.best_state
        return TrainingResult(
            self.state, self.rows, self.best, self.step, self.wall_s, reason
        )


def _copy(leaf: Any) -> Any:
    """Copy an array: the next update would otherwise take the original."""
    return leaf.copy() if isinstance(leaf, jax.Array) else np.array(leaf)
