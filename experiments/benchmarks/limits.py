"""What a chip can do at most, measured: operations and bytes in a second."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.benchmarks.facts import on_cpu
from experiments.benchmarks.rows import Row, ratio_row
from experiments.benchmarks.timing import Job, Timing

TINY_SIZES, CPU_SIZES, ACCELERATOR_SIZES = (64,), (2_048, 4_096), (8_192,)
# Three arrays' worth of traffic of 256 MiB or 1 GiB each: no cache holds them.
TINY_COUNT, CPU_COUNT, ACCELERATOR_COUNT = 2**12, 2**26, 2**28
TRIAD = "triad"
REACHED = 0.4
"""Share of the peak from which a program needs no reason."""


class Demand(NamedTuple):
    """What a program does in one run."""

    flops: float
    moved_bytes: float


class Limits(NamedTuple):
    """The most that the chip did in a second."""

    flops_per_s: float
    bytes_per_s: float

    def seconds(self, demand: Demand) -> tuple[float, float]:
        """Return how long operations and bytes take at least."""
        flops, moved = demand
        return flops / self.flops_per_s, moved / self.bytes_per_s


def moved_bytes(told: Mapping[str, Any]) -> float:
    """Return the bytes that a program moves, of what its compiler says of it.

    No fewer than it gets and returns: of what it hands to a library, compilers may
    know nothing.

    Args:
      told: of `experiments.scaling.programs.describe`.
    """
    least = told["argument_bytes"] + told["output_bytes"]
    return float(max(told["accessed_bytes"], least))


def matrix_sizes(tiny: bool) -> tuple[int, ...]:
    """Return the sizes of the square products."""
    if tiny:
        return TINY_SIZES
    return CPU_SIZES if on_cpu() else ACCELERATOR_SIZES


def triad_count(tiny: bool) -> int:
    """Return the length of the triad's arrays."""
    if tiny:
        return TINY_COUNT
    return CPU_COUNT if on_cpu() else ACCELERATOR_COUNT


def limit_jobs(tiny: bool, precision: str) -> dict[str, Job]:
    """Return what the limits are measured by.

    Products are of the precision that JAX takes by default, as the steps' are: on some
    accelerators that of float32 has fewer bits.

    Args:
      tiny: sizes for tests.
      precision: of the products; the triad is of float32 whatever it is.
    """
    jobs = {
        f"matrix_{size}": _matrix_job(size, precision) for size in matrix_sizes(tiny)
    }
    return jobs | {TRIAD: _triad_job(triad_count(tiny))}


def _matrix_job(size: int, precision: str) -> Job:
    first, second = (
        jax.random.normal(jax.random.key(place), (size, size), jnp.dtype(precision))
        for place in range(2)
    )
    multiply = jax.jit(jnp.matmul)
    return lambda: multiply(first, second)


def _triad_job(count: int) -> Job:
    # Written in place: fresh memory would first have to be found, and cleared.
    @jax.jit(donate_argnums=0)
    def triad(changed: jax.Array, other: jax.Array) -> jax.Array:
        return other + 0.5 * changed

    state = jnp.ones((count // 2**8, 2**8))
    other = jnp.ones(state.shape)

    def run() -> Any:
        nonlocal state
        state = triad(state, other)
        return state

    return run


def find_limits(times: Mapping[str, Timing], tiny: bool) -> Limits:
    """Return the limits that `limit_jobs` found, each in its best round.

    Args:
      times: of its jobs, among others.
      tiny: whether they were tiny.
    """
    flops = [2 * n**3 / times[f"matrix_{n}"].best for n in matrix_sizes(tiny)]
    moved = 3 * 4 * triad_count(tiny)  # reads two arrays, writes one
    return Limits(max(flops), moved / times[TRIAD].best)


def round_limits(times: Mapping[str, Timing], tiny: bool) -> list[Limits]:
    """Return the limits of every single round, as `find_limits` does."""
    return [
        find_limits(
            {name: Timing((times[name].seconds[place],)) for name in times}, tiny
        )
        for place in range(len(times[TRIAD].seconds))
    ]


def roofline_row(
    name: str,
    ours: Timing,
    demand: Demand,
    limits: Limits,
    rounds: Sequence[Limits] = (),
    **more: Any,
) -> Row:
    """Return the row of a program against the least that the chip would take.

    The compiler counts bytes operation by operation. What stays in a cache between two
    of them counts too, so that a share may pass 1.

    Args:
      name: of the row.
      ours: its timing.
      demand: what it does.
      limits: of the chip.
      rounds: those of every single round, for the range of the share.
      more: further fields.
    """
    by_flops, by_bytes = limits.seconds(demand)
    flops, moved = demand
    least = Timing((max(by_flops, by_bytes),) * len(ours.seconds))
    if rounds:
        pairs = zip(rounds, ours.seconds, strict=True)
        shares = [max(each.seconds(demand)) / seconds for each, seconds in pairs]
        more["min_max"] = [min(shares), max(shares)]
    return ratio_row(
        name,
        ours,
        "the roofline of the measured limits",
        least,
        tera_flops=flops / 1e12,
        gigabytes=moved / 1e9,
        intensity=flops / moved if moved else 0.0,
        flops_per_s=flops / ours.best,
        share_of_peak=by_flops / ours.best,
        share_of_bandwidth=by_bytes / ours.best,
        bound="operations" if by_flops >= by_bytes else "memory",
        reason=reason(ours.best, demand, limits),
        limits=limits._asdict(),
        **more,
    )


def reason(seconds: float, demand: Demand, limits: Limits) -> str:
    """Say why a program does not reach `REACHED` of the peak, or that it does.

    Args:
      seconds: that it takes.
      demand: what it does.
      limits: of the chip.
    """
    by_flops, by_bytes = limits.seconds(demand)
    if by_flops >= REACHED * seconds:
        return "reached"
    whole = f"of {1e3 * seconds:.3g} ms"
    size = demand.moved_bytes
    moved = f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
    moved = f"{moved} take {1e3 * by_bytes:.3g} ms at the measured bandwidth"
    if by_bytes >= seconds / 2:
        return f"memory: {moved}, {whole}"
    left = 1e3 * (seconds - max(by_flops, by_bytes))
    return (
        f"left: {left:.3g} {whole}; operations take {1e3 * by_flops:.3g} ms at the "
        f"measured peak, {moved}"
    )
