"""What the loop is told and what it returns."""

import dataclasses
from typing import Any, NamedTuple

from marssep_jax.metric_log import Row


class EarlyStop(NamedTuple):
    """Stop when a metric has not risen for ``patience`` evaluations.

    The state before the first step counts as the first evaluation, so that a
    stage that only does harm returns what it was given.
    """

    patience: int = 3
    metric: str = "eval/si_sdri_db"
    min_delta: float = 0.0


class Best(NamedTuple):
    """The best evaluation so far."""

    step: int
    score: float


class TrainingResult(NamedTuple):
    """What a stage ended with.

    Attributes:
      state: the final state; with early stopping, the best one.
      rows: all metric rows of the stage, earlier sessions included.
      best: the best evaluation, if there was any.
      step: updates done.
      wall_s: seconds spent on them (compilation, data and logging included;
        evaluation and checkpoints not), earlier sessions included.
      reason: ``"steps"``, ``"time"``, ``"early_stop"`` or ``"alarm"``.
    """

    state: Any
    rows: list[Row]
    best: Best | None
    step: int
    wall_s: float
    reason: str


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When to do what, in steps; 0 is never, the end always counts."""

    num_steps: int
    log_every: int = 50
    eval_every: int = 0
    save_every: int = 0

    def due(self, step: int, every: int) -> bool:
        """Say whether something of a period is due after a step."""
        return step == self.num_steps or bool(every and step % every == 0)


def check_options(
    schedule: Schedule, can_evaluate: bool, early_stop: EarlyStop | None
) -> None:
    """Check that options fit each other.

    Raises:
      ValueError: naming the first that does not.
    """
    for name in ("num_steps", "log_every", "eval_every", "save_every"):
        low = 1 if name == "log_every" else 0
        value = getattr(schedule, name)
        if value < low:
            raise ValueError(f"{name} is {value}, expected >= {low}")
    if early_stop is None:
        return
    if not can_evaluate or not schedule.eval_every:
        raise ValueError(
            f"early_stop is {early_stop}, expected evaluate and eval_every > 0 with it"
        )
    if early_stop.patience < 1:
        raise ValueError(f"patience is {early_stop.patience}, expected >= 1")
