"""What a chain of trainings knows, and the account of what has ended."""

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from experiments.datasets import OpenedData
from experiments.settings import Settings
from marssep_jax.checkpoint.workdir import write_json

Record = dict[str, Any]


class Chain(NamedTuple):
    """What every step of the chain knows.

    ``settings`` are those of each step that trains a separator.
    """

    folder: pathlib.Path
    settings: dict[str, Settings]
    data: OpenedData
    announce: Callable[..., None]

    def stage_dir(self, name: str) -> str:
        """Return the workdir of a training."""
        return str(self.folder / "stages" / name)


class Ledger:
    """Time and metrics of what has ended, kept on disk.

    Every second between two entries belongs to the second of them, so that the
    times add up to the whole.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._path, self._last = path, time.monotonic()
        self.records: list[Record] = []
        if path.exists():
            try:
                self.records = json.loads(path.read_text(encoding="utf-8"))["records"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path} is damaged, expected the records of a run"
                ) from error

    def has(self, step: str) -> bool:
        """Say whether a step has ended."""
        return any(record["step"] == step for record in self.records)

    def close(self, step: str, rows: list[Record]) -> None:
        """Note the end of a step.

        Args:
          step: its name.
          rows: its stages; the time since the last entry is shared out among them
            in proportion to their own.
        """
        now = time.monotonic()
        spent, self._last = now - self._last, now
        own = sum(row["wall_s"] for row in rows)
        self.records = [r for r in self.records if r["step"] != step]  # done anew
        for row in rows:
            share = row["wall_s"] / own if own else 1 / len(rows)
            entry = {"step": step, **row, "wall_s": round(spent * share, 1)}
            self.records.append(entry)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, {"records": self.records})

    def stages(self) -> list[Record]:
        """Return the stages in the layout of ``summary.json``."""
        return [
            {name: record[name] for name in ("name", "wall_s", "metrics")}
            for record in self.records
        ]

    def seconds(self, name: str) -> float:
        """Return the seconds a separator's stage spent on training steps."""
        return next(r["train_s"] for r in self.records if r["name"] == name)
