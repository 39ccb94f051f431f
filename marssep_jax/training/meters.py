"""What a run costs: waiting for data, compiling, memory of the host."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax import monitoring

WAIT_SHARE = "run/wait_share"
COMPILE_S = "run/compile_s"
COMPILED = "run/compiled"
HOST_MB = "run/host_mb"
COSTS = "run/"
"""How the names of all of them begin: two runs of equal numbers differ in these."""

_COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
_STATM = Path("/proc/self/statm")


class Meters:
    """Costs since the row before, as metrics.

    ``run/wait_share`` is the share of the stepping time in which the device had
    nothing to do because the next batch was not there: time spent on fetching
    counts unless the step before is still under way when the batch arrives. So it
    errs upwards, by what was left of that step when the fetching began.
    ``run/compile_s`` and ``run/compiled`` are seconds and number of programs that
    were compiled or read from the cache, of evaluation as well; ``run/host_mb`` is
    the resident memory of the process, where the system tells it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start counting; a meter is used as a context, which ends it."""
        self._clock = clock
        self._waited_s = self._compile_s = self._seen_wall_s = 0.0
        self._compiled = 0

    def __enter__(self) -> "Meters":
        """Listen to the compiler."""
        monitoring.register_event_duration_secs_listener(self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        monitoring.unregister_event_duration_listener(self._hear)

    def _hear(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILE_EVENT:
            self._compile_s += duration_secs
            self._compiled += 1

    def start(self, wall_s: float) -> None:
        """Note the stepping time at which this session begins."""
        self._seen_wall_s = wall_s

    def fetch(self, iterator: Iterator[Any], under_way: Any = None) -> Any:
        """Return the next batch.

        Args:
          iterator: where batches come from.
          under_way: metrics of the step that the device works on, if it does.
        """
        begun = self._clock()
        batch = next(iterator)
        if under_way is None or _is_ready(under_way):
            self._waited_s += self._clock() - begun
        return batch

    def read(self, wall_s: float) -> dict[str, float]:
        """Return the metrics of a row, and start anew.

        Args:
          wall_s: stepping time so far.
        """
        spent = wall_s - self._seen_wall_s
        found = {
            WAIT_SHARE: min(1.0, self._waited_s / spent) if spent > 0 else 0.0,
            COMPILE_S: round(self._compile_s, 3),
            COMPILED: float(self._compiled),
        }
        if (memory := host_mb()) is not None:
            found[HOST_MB] = memory
        self._waited_s = self._compile_s = 0.0
        self._compiled, self._seen_wall_s = 0, wall_s
        return found


def host_mb() -> float | None:
    """Return the resident memory of this process in MB, None if it is not told."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource  # absent on Windows, where the package still imports

    return round(pages * resource.getpagesize() / 1e6, 1)


def _is_ready(metrics: Any) -> bool:
    arrays = (leaf for leaf in jax.tree.leaves(metrics) if isinstance(leaf, jax.Array))
    return all(array.is_ready() for array in arrays)  # type: ignore[attr-defined]
