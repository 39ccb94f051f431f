"""Metrics of a run: ``metrics.jsonl``, TensorBoard events, and progress."""

import contextlib
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO

from marssep_jax.row_file import Row, RowFile

FILE = "metrics.jsonl"


def plain(value: Any) -> Any:
    """Return a number as JSON has it: what is not finite becomes None."""
    if isinstance(value, bool | str | int) or value is None:
        return value
    number = float(value)
    return number if math.isfinite(number) else None


class MetricLog:
    """Rows of one stage, a line each, never half a line.

    A row is ``step``, ``stage``, ``wall_s`` and metrics. Several stages may share
    the file. TensorBoard events are written beside it where tensorboardX is
    installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        stage: str,
        *,
        tensorboard: bool = True,
    ) -> None:
        """Open the log of a stage in a folder that exists or will be made."""
        self.path = Path(folder) / FILE
        self.stage = stage
        self._tensorboard = tensorboard
        self._events: Any = None
        self._file = RowFile(self.path, stage)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def rows(self) -> list[Row]:
        """Return this stage's rows."""
        return self._file.rows()

    def truncate(self, step: int) -> None:
        """Forget this stage's rows after a step, before going on from there."""
        self._file.truncate(step)
        self._close_events()
        if self._tensorboard:
            self._events = _open_events(self.path.parent, self.stage, step + 1)

    def write(self, step: int, wall_s: float, metrics: Mapping[str, Any]) -> Row:
        """Append a row and return it.

        Raises:
          OSError: no room; the file then ends with the row before.
        """
        row: Row = {"step": step, "stage": self.stage, "wall_s": round(wall_s, 3)}
        row |= {name: plain(value) for name, value in metrics.items()}
        self._file.append(row)
        if self._events is None and self._tensorboard:
            self._events = _open_events(self.path.parent, self.stage, None)
        if self._events is not None:
            for name, value in row.items():
                if "/" in name and value is not None:
                    self._events.add_scalar(name, value, step)
            self._events.flush()
        return row

    def close(self) -> None:
        """Close the event file."""
        self._close_events()

    def _close_events(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None


def _open_events(folder: Path, stage: str, purge_step: int | None) -> Any:
    try:
        import tensorboardX  # optional, and needed here only
    except ImportError:
        return None
    return tensorboardX.SummaryWriter(
        str(folder / "tensorboard" / stage),
        purge_step=purge_step,
        # Names hold the second only: two sessions in one would share a file.
        filename_suffix=f".{purge_step or 0}.{os.getpid()}",
    )


class Progress(Protocol):
    """Somebody who wants to know how far a stage is."""

    def __call__(self, step: int, num_steps: int, row: Row) -> None:
        """Hear of a step; ``row`` is empty where nothing was measured."""
        ...

    def close(self) -> None:
        """Hear of the end."""
        ...


SHOWN = 3
"""Most metrics shown beside the progress."""


def _shown(row: Row) -> str:
    """Pick what a reader wants to see: evaluation, then loss and reward."""
    names = [
        *(name for name in row if name.startswith("eval/")),
        *(name for name in row if name.endswith(("/loss", "/mean", "/accuracy"))),
    ]
    pairs = ((name, row[name]) for name in names if row[name] is not None)
    return "  ".join(f"{name} {value:.4g}" for name, value in list(pairs)[:SHOWN])


class LineProgress:
    """One plain line for every row, for logs and pipes."""

    def __init__(self, stage: str, stream: TextIO | None = None) -> None:
        self._stage = stage
        self._stream = sys.stderr if stream is None else stream

    def __call__(self, step: int, num_steps: int, row: Row) -> None:
        """Print a line if something was measured."""
        if row:
            text = f"{self._stage} {step}/{num_steps}  {row['wall_s']:.0f} s"
            if "left_s" in row:
                text += f"  about {row['left_s']:.0f} s left"
            print(text, _shown(row), sep="  ", file=self._stream, flush=True)

    def close(self) -> None:
        """Have nothing to do."""


class BarProgress:
    """A bar for a terminal; needs tqdm."""

    def __init__(self, stage: str, stream: TextIO | None = None) -> None:
        self._stage = stage
        self._stream = sys.stderr if stream is None else stream
        self._bar: Any = None

    def __call__(self, step: int, num_steps: int, row: Row) -> None:
        """Move the bar."""
        import tqdm  # optional

        if self._bar is None:
            self._bar = tqdm.tqdm(
                total=num_steps,
                initial=step,
                desc=self._stage,
                file=self._stream,
                dynamic_ncols=True,
            )
        self._bar.update(step - self._bar.n)
        if row:
            self._bar.set_postfix_str(_shown(row))

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def make_progress(stage: str, stream: TextIO | None = None) -> Progress:
    """Return a bar on a terminal that has tqdm, else plain lines."""
    stream = sys.stderr if stream is None else stream
    if stream.isatty():
        with contextlib.suppress(ImportError):
            import tqdm  # noqa: F401  is it there?

            return BarProgress(stage, stream)
    return LineProgress(stage, stream)
