"""Which checkpoints stay, and how long writing one may take."""

from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

_CENTURY_S = 100 * 365 * 86_400


class Retention(checkpoint_managers.PreservationPolicy):
    """Keep the latest few, those of a period and one more, the best.

    Orbax can rank checkpoints itself, but forgets the ranks at a restart.
    """

    def __init__(self, num_latest: int, period: int) -> None:
        """Keep so many of the latest, and every ``period``-th step; 0 is none."""
        self._latest = checkpoint_managers.LatestN(num_latest)
        self._period = period
        self.step: int | None = None

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        """Return one answer a checkpoint."""
        latest = self._latest.should_preserve(checkpoints, context=context)
        return [
            kept or info.step == self.step or self._is_of_period(info.step)
            for kept, info in zip(latest, checkpoints, strict=True)
        ]

    def _is_of_period(self, step: int) -> bool:
        return bool(self._period) and step % self._period == 0


def patience() -> ocp.AsyncOptions:
    """Let no write of a single process time out.

    Orbax times it by the wall clock, so a clock set forward would end the run. Where
    processes wait for each other, a limit is needed all the same.
    """
    if jax.process_count() > 1:
        return ocp.AsyncOptions()
    return ocp.AsyncOptions(timeout_secs=_CENTURY_S)
