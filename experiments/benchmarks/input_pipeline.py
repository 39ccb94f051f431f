"""Does a training step wait for its batch? The real loop, watched from outside."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from experiments.benchmarks.rows import Row, ratio_row
from experiments.benchmarks.timing import Timing

NAMES = ("input.wait_share",)

CONFIG = "experiments/configs/quickstart.py"
TINY_CONFIG = "experiments/configs/debug.py"
NUM_STEPS, WARM_STEPS = 60, 10
TINY_STEPS = 6


class Watch:
    """Notes when each batch is there and when each step has ended."""

    def __init__(self) -> None:
        """Start with nothing noted."""
        self.fetched: list[float] = []
        self.ended: list[Future[float]] = []
        self._pool = ThreadPoolExecutor(1)

    def batches(self, source: Iterator[Any]) -> Iterator[Any]:
        """Pass batches on."""
        for batch in source:
            self.fetched.append(time.perf_counter())
            yield batch

    def update(self, update: Any) -> Any:
        """Wrap the step; the state it returns may be given away at once."""

        def watched(state: Any, batch: Any) -> Any:
            state, metrics = update(state, batch)
            self.ended.append(self._pool.submit(_end_of, metrics))
            return state, metrics

        return watched

    def waits(self, first: int) -> tuple[list[float], list[float]]:
        """Return wall time and waiting of every step from ``first`` on, in seconds.

        A step waits from the end of the one before until its batch is there.
        """
        ended = [future.result() for future in self.ended]
        steps = range(max(first, 1), len(ended))
        wall = [ended[step] - ended[step - 1] for step in steps]
        wait = [max(0.0, self.fetched[step] - ended[step - 1]) for step in steps]
        return wall, wait


def _end_of(metrics: Any) -> float:
    jax.block_until_ready(metrics)
    return time.perf_counter()


def measure(tiny: bool) -> list[Row]:
    """Train the quickstart's separator on clips made in memory, without stops."""
    import tensorflow  # noqa: F401  the pipeline's; without it there is none

    from experiments import build, datasets, starts, updates
    from experiments.config_files import load_config_function
    from experiments.settings import resolve
    from marssep_jax.training import run

    config = load_config_function(TINY_CONFIG if tiny else CONFIG)()
    config.data.dataset = "synthetic"
    settings = resolve(config)
    steps = TINY_STEPS if tiny else NUM_STEPS
    parts = build.make_parts(settings)
    data = datasets.open_data(
        settings.data, settings.frontend, settings.encoder.image_size
    )
    start = starts.load_start(settings, parts)
    banks = datasets.open_banks(settings, data, start)
    stage = updates.make_stage(settings, parts, start.reward.params)
    key = jax.random.key(0)
    state = stage.start(key, *parts.separator.init(key, settings.frontend))
    watch = Watch()
    run(
        state=state,
        update=watch.update(stage.update),
        batches=lambda step: watch.batches(
            datasets.training_batches(settings, data.catalogue, banks, step)
        ),
        num_steps=steps,
        log_every=steps,
    )
    wall, wait = watch.waits(1 if tiny else WARM_STEPS)
    return [_row(wall, wait)]


def _row(wall: list[float], wait: list[float]) -> Row:
    """Compare steps with what they would take if no batch were ever late."""
    count = len(wall)
    ours = Timing((sum(wall) / count,))
    without = Timing(((sum(wall) - sum(wait)) / count,))
    row = ratio_row(NAMES[0], ours, "the same steps without their waits", without)
    singles = [1.0 - late / whole for whole, late in zip(wall, wait, strict=True)]
    return row | {
        "runs": count,
        "min_max": [min(singles), max(singles)],
        "wait_share": sum(wait) / sum(wall),
    }
