"""Updates that were skipped because numbers had gone bad: how many, and on what."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from marssep_jax.row_file import RowFile
from marssep_jax.update.gradients import SKIPPED

FILE = "skipped.jsonl"
TOTAL = "update/skipped_total"

Describe = Callable[[int], Mapping[str, Any]]


class SkipCounter:
    """Counts skipped updates and keeps what their batches were.

    Attributes:
      total: updates skipped so far, earlier sessions included.
      in_a_row: of these, how many without one that was taken in between.
    """

    def __init__(
        self, folder: Path | None, stage: str, limit: int, describe: Describe | None
    ) -> None:
        """Start at zero.

        Args:
          folder: where ``skipped.jsonl`` goes; None keeps none.
          stage: what its rows are called.
          limit: in a row that end the run; 0 is never.
          describe: number of a batch -> its ids, ready for JSON.
        """
        self._file = None if folder is None else RowFile(folder / FILE, stage)
        self._stage, self._limit, self._describe = stage, limit, describe
        self.total = self.in_a_row = 0

    def resume(self, step: int, total: int, in_a_row: int) -> None:
        """Go on from a step; rows after it are dropped."""
        self.total, self.in_a_row = total, in_a_row
        if self._file is not None:
            self._file.truncate(step)

    def see(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Hear of an update that has ended.

        Args:
          step: updates done with it.
          metrics: its own.

        Raises:
          ValueError: too many in a row.
        """
        if SKIPPED not in metrics:
            return
        if not float(np.asarray(metrics[SKIPPED])):
            self.in_a_row = 0
            return
        self.total += 1
        self.in_a_row += 1
        values = {name: float(np.asarray(value)) for name, value in metrics.items()}
        bad = sorted(name for name, value in values.items() if not np.isfinite(value))
        if self._file is not None:
            self._file.append(
                {"step": step, "stage": self._stage, "not_finite": bad}
                | {"in_a_row": self.in_a_row, "batch": step - 1}
                | dict(self._describe(step - 1) if self._describe is not None else {})
            )
        if self._limit and self.in_a_row >= self._limit:
            raise ValueError(self._too_many(step, bad))

    def _too_many(self, step: int, bad: list[str]) -> str:
        place = (
            "" if self._file is None else f"; their batches are in {self._file.path}"
        )
        return (
            f"{', '.join(bad) or 'a number'} is not finite at step {step}, the last of "
            f"{self.in_a_row} updates in a row that were skipped, expected fewer than "
            f"{self._limit}: a smaller learning rate or more clipping may help{place}"
        )


def prefetch_flag(metrics: Mapping[str, Any]) -> None:
    """Start the flag's way to the host, so that reading it later waits for nothing."""
    flag = metrics.get(SKIPPED)
    if isinstance(flag, jax.Array):
        flag.copy_to_host_async()
