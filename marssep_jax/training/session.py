"""What the loop does at a step, and what it knows from step to step."""

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from marssep_jax import interrupts
from marssep_jax.checkpoint import CheckpointStore
from marssep_jax.metric_log import MetricLog, Progress, Row, plain
from marssep_jax.training.meters import Meters
from marssep_jax.training.records import Best, EarlyStop, Schedule, TrainingResult
from marssep_jax.training.skips import TOTAL, SkipCounter, prefetch_flag
from marssep_jax.update.gradients import SKIPPED

logger = logging.getLogger(__name__)

Evaluate = Callable[[Any], Mapping[str, float]]
Batches = Callable[[int], Iterator[Any]]
Update = Callable[[Any, Any], tuple[Any, Mapping[str, Any]]]
StopIf = Callable[[Sequence[Row]], bool]


@dataclasses.dataclass
class Session:
    """The loop's variables; `position` is what a checkpoint keeps of them.

    ``unseen`` is the step under way, with its metrics; ``due`` are the metrics of a
    step whose evaluation or row is still to come.
    """

    state: Any
    schedule: Schedule
    store: CheckpointStore | None
    log: MetricLog | None
    config: dict[str, Any]
    evaluate: Evaluate | None
    early_stop: EarlyStop | None
    max_wall_s: float | None
    skips: SkipCounter
    meters: Meters
    progress: Progress | None
    clock: Callable[[], float]
    stop_if: StopIf | None = None
    step: int = 0
    wall_s: float = 0.0
    best: Best | None = None
    stale: int = 0
    alarmed: bool = False
    unseen: tuple[int, Mapping[str, Any]] | None = None
    due: dict[str, float] | None = None
    rows: list[Row] = dataclasses.field(default_factory=list)
    best_state: Any = None

    def position(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside the state."""
        best = None if self.best is None else list(self.best)
        return {
            "step": self.step,
            "wall_s": self.wall_s,
            "best": best,
            "stale": self.stale,
            "skipped": [self.skips.total, self.skips.in_a_row],
            "due": self.due,
        }

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        found = None if self.store is None else self.store.restore_latest(self.state)
        skipped = (0, 0)
        if self.store is not None and found is not None:
            kept = found.position
            self.state, self.step = found.state, kept["step"]
            self.wall_s, self.stale = kept["wall_s"], kept["stale"]
            skipped, self.due = kept.get("skipped", skipped), kept.get("due")
            # A best step that was lost with damaged ones is found anew.
            if kept["best"] and kept["best"][0] in self.store.steps():
                self.best = Best(*kept["best"])
        self.meters.start(self.wall_s)
        last = -1 if found is None else self.step - (self.due is not None)
        self.skips.resume(-1 if found is None else self.step, *skipped)
        if self.log is not None:
            self._warn_of_loss(self.log.rows())
            self.log.truncate(last)
            self.rows = self.log.rows()
        self._listen()

    def _warn_of_loss(self, rows: list[Row]) -> None:
        """Say that checkpoints are gone, which a kill alone cannot have done."""
        period, store = self.schedule.save_every, self.store
        reached = max((row["step"] for row in rows), default=0)
        # The checkpoint before the last may still be under way, and no other.
        if store is not None and period and reached - self.step >= 2 * period:
            logger.warning(
                "rows of %s reach step %d, but its newest checkpoint in %s is of step "
                "%d: going on from there",
                self.log and self.log.stage,
                reached,
                store.directory,
                self.step,
            )

    def go(self, update: Update, batches: Batches) -> str:
        """Take steps until there is a reason to stop; return it."""
        try:
            if self.step == 0 and self.best is None and self.early_stop is not None:
                self.due = {}
            if self.due is not None:
                self._conclude(self.due, ending=bool(self._reason()))
            if reason := self._reason():
                return reason
            return self._iterate(update, batches(self.step))
        except interrupts.Termination:
            self._settle()
            self._save()
            raise

    def _iterate(self, update: Update, iterator: Iterator[Any]) -> str:
        try:
            return self._steps(update, iterator)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _steps(self, update: Update, iterator: Iterator[Any]) -> str:
        last = self.clock()
        batch = self.meters.fetch(iterator)
        while True:
            interrupts.check()
            self.state, metrics = update(self.state, batch)
            prefetch_flag(metrics)
            self.step += 1
            if self.step < self.schedule.num_steps:
                batch = self.meters.fetch(iterator, metrics)
            # One step may be under way, no more: time is then known to a step.
            self._settle()
            self.unseen = self.step, metrics
            now = self.clock()
            self.wall_s, last = self.wall_s + now - last, now
            reason = self._reason()
            if self._pause_due(reason):
                self._settle()
                now = self.clock()
                self.wall_s += now - last
                self._conclude(_numbers(metrics), ending=bool(reason))
                if not reason and (reason := self._reason()):
                    self._save()  # an evaluation has just ended it
                last = self.clock()
            elif self.progress is not None:
                self.progress(self.step, self.schedule.num_steps, {})
            if reason:
                return reason

    def _settle(self) -> None:
        """Wait for the step under way, and count it if it was skipped."""
        if self.unseen is not None:
            (step, metrics), self.unseen = self.unseen, None
            jax.block_until_ready(metrics)
            self.skips.see(step, metrics)

    def _reason(self) -> str:
        if self.early_stop is not None and self.stale >= self.early_stop.patience:
            return "early_stop"
        if self.alarmed:
            return "alarm"
        if self.step >= self.schedule.num_steps:
            return "steps"
        if self.max_wall_s is not None and self.wall_s >= self.max_wall_s:
            return "time"
        return ""

    def _pause_due(self, reason: str) -> bool:
        plan = self.schedule
        periods = (plan.log_every, plan.eval_every, plan.save_every)
        return bool(reason) or any(plan.due(self.step, every) for every in periods)

    def _conclude(self, values: dict[str, float], *, ending: bool = False) -> None:
        """Evaluate, log and save what is due at this step; at most one row."""
        self._require_finite(values)
        self.due = values
        plan, improved = self.schedule, False
        evaluated = self.evaluate is not None and (
            ending or self.step == 0 or plan.due(self.step, plan.eval_every)
        )
        if self.evaluate is not None and evaluated:
            scores = dict(self.evaluate(self.state))
            values = values | scores
            improved = self._judge(scores)
        row: Row = {}
        if ending or evaluated or plan.due(self.step, plan.log_every):
            row = self._log(values)
        self.due = None
        if ending or improved or plan.due(self.step, plan.save_every):
            self._save()
        if self.progress is not None:
            self.progress(self.step, plan.num_steps, row)

    def _log(self, values: dict[str, float]) -> Row:
        if SKIPPED in values:
            values = values | {TOTAL: float(self.skips.total)}
        values = values | self.meters.read(self.wall_s)
        row: Row = {"step": self.step, "wall_s": self.wall_s}
        row |= {name: plain(value) for name, value in values.items()}
        if self.log is not None:
            row = self.log.write(self.step, self.wall_s, values)
        self.rows.append(row)
        self._listen()
        return row

    def _listen(self) -> None:
        """Ask of the rows whether to stop; they alone decide, also after a restart."""
        self.alarmed = self.stop_if is not None and self.stop_if(self.rows)

    def _require_finite(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            watched = name.endswith("/loss") or name.endswith("/norm")
            if watched and SKIPPED not in values and not math.isfinite(value):
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


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(np.asarray(value)) for name, value in metrics.items()}


def _copy(leaf: Any) -> Any:
    """Copy an array: the next update would otherwise take the original."""
    return leaf.copy() if isinstance(leaf, jax.Array) else np.array(leaf)
