"""Say how far long work is."""

import time
from collections.abc import Callable
from typing import Any

from marssep_jax.metric_log import make_progress


def progress_of(name: str, total: int) -> Callable[[int], None]:
    """Return who hears how many of ``total`` are done: a bar, or a line a quarter."""
    progress, start = make_progress(name), time.monotonic()
    quarters: set[int] = set()

    def hear(done: int) -> None:
        row: dict[str, Any] = {}
        quarter = 4 * done // max(total, 1)
        if quarter not in quarters:
            quarters.add(quarter)
            row = {"wall_s": time.monotonic() - start}
        progress(done, total, row)
        if done >= total:
            progress.close()

    return hear
