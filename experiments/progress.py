"""Say how far long work is, and how long it will take."""

import time
from collections.abc import Callable
from typing import Any

from marssep_jax.metric_log import make_progress


def progress_of(
    name: str, total: int, *, parts: int = 4, start: int = 0
) -> Callable[[int], None]:
    """Return who hears how many of ``total`` are done: a bar, or a line a part.

    Lines say how long the rest takes at the pace since the first report, which had
    programs to compile; the bar does so by itself.

    Args:
      name: of the work.
      total: things to do.
      parts: lines, where there is no terminal; one more comes as soon as there is a
        pace.
      start: things that were done before.
    """
    progress, began = make_progress(name), time.monotonic()
    said: set[int] = set()
    reports: list[tuple[int, float]] = []

    def hear(done: int) -> None:
        row: dict[str, Any] = {}
        reports[2:] = []
        reports.append((done, time.monotonic()))
        part = parts * (done - start) // max(total - start, 1)
        if part not in said or len(reports) == 2:
            said.add(part)
            row = {"wall_s": time.monotonic() - began} | _left(reports, total)
        progress(done, total, row)
        if done >= total:
            progress.close()

    return hear


def _left(reports: list[tuple[int, float]], total: int) -> dict[str, float]:
    (first, began), (done, now) = reports[0], reports[-1]
    if done <= first or done >= total:
        return {}
    return {"left_s": (now - began) / (done - first) * (total - done)}
