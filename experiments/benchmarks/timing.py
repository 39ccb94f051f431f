"""Time jobs alternately in one process, so that all meet the same machine."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from marssep_jax import interrupts

Job = Callable[[], Any]
"""What is timed; whatever it returns is waited for."""

# Threads of either library look for work for a while after their last: without a
# pause they would take a core from the job that comes next.
SETTLE_S = 0.1


class Timing(NamedTuple):
    """Seconds of one job, round by round."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The shortest: the machine without its other users."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.seconds)

    def over(self, count: float) -> "Timing":
        """Divide by a count, for the seconds of one of many."""
        return Timing(tuple(seconds / count for seconds in self.seconds))


def alternate(jobs: Mapping[str, Job], rounds: int) -> dict[str, Timing]:
    """Run every job once unmeasured, then all of them round after round.

    The first call compiles and fills caches. Every other round runs backwards, so
    that no job always follows the same one.

    Args:
      jobs: by name.
      rounds: measured calls of each.

    Returns:
      Wall time of every call, until its result is there.

    Raises:
      ValueError: no rounds.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}, expected >= 1")
    for job in jobs.values():
        jax.block_until_ready(job())
    found: dict[str, list[float]] = {name: [] for name in jobs}
    order = list(jobs.items())
    for _ in range(rounds):
        for name, job in order:
            interrupts.check()
            time.sleep(SETTLE_S)
            start = time.perf_counter()
            jax.block_until_ready(job())
            found[name].append(time.perf_counter() - start)
        order.reverse()
    return {name: Timing(tuple(seconds)) for name, seconds in found.items()}
