"""Training steps and their layers against what the chip can do at most.

Peak and bandwidth are measured in the same run, so that nothing is taken from a data
sheet. A row's speedup is its share of the roofline: the least time that the chip would
take for as many operations and bytes, over the time that it took.
"""

import pathlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.benchmarks import updates
from experiments.benchmarks.facts import on_cpu
from experiments.benchmarks.layers import LayerProgram, compile_layer, network_layers
from experiments.benchmarks.limits import (
    Demand,
    Limits,
    find_limits,
    limit_jobs,
    moved_bytes,
    roofline_row,
    round_limits,
)
from experiments.benchmarks.profile import profile_products, profile_steps
from experiments.benchmarks.rows import NotMeasuredError, Row, not_measured
from experiments.benchmarks.timing import Job, Timing, alternate
from experiments.benchmarks.updates import (
    FULL,
    PRECISIONS,
    Sizes,
    choose_sizes,
    is_timed,
)
from experiments.scaling.programs import describe
from marssep_jax.models import make_separator
from marssep_jax.update.gradients import apply_gradients

STEPS = {name: step for step, name in updates.STEPS.items()}
"""Step as rows name it, to its name in `updates.our_steps`."""

LEVELS = range(1, len(FULL.separator.widths) + 1)
LAYERS = (
    *(f"down_{level}" for level in LEVELS),
    *(f"up_{level}" for level in reversed(LEVELS)),
)
OPTIMISER = "optimiser"
NAMES = tuple(
    f"roofline.{part}_{precision}"
    for precision in PRECISIONS
    for part in (
        *STEPS,
        *(f"layer_{layer}" for layer in LAYERS),
        *(f"outside_{step}" for step in STEPS),
        OPTIMISER,
    )
)

CPU_ROUNDS, ACCELERATOR_ROUNDS = 8, 10
# On an accelerator calls go out one behind the other: the host's part is hidden.
ACCELERATOR_CALLS = 20


def measure(tiny: bool, trace: str | None = None) -> list[Row]:
    """Time steps, layers and optimiser, in every precision that is used here.

    Args:
      tiny: sizes for tests.
      trace: folder that keeps the profile of every step.
    """
    rows: list[Row] = []
    folder = pathlib.Path(trace) if trace else None
    for precision in PRECISIONS:
        if is_timed(precision, tiny):
            rows += _measure_precision(tiny, precision, folder)
        else:
            reason = f"{precision} is for accelerators, and JAX computes on a CPU"
            names = [name for name in NAMES if name.endswith(precision)]
            rows += [not_measured(name, reason) for name in names]
    return rows


def used_sizes(tiny: bool) -> Sizes:
    """Return what is trained here: on an accelerator, with a batch that fills it."""
    sizes = choose_sizes(tiny)
    if tiny:
        return sizes
    return sizes._replace(rounds=CPU_ROUNDS if on_cpu() else ACCELERATOR_ROUNDS)


def repeated(job: Job, calls: int) -> Job:
    """Return a job that makes several calls and waits for the last alone."""

    def run() -> Any:
        for _ in range(calls - 1):
            job()
        return job()

    return run


class _Measured(NamedTuple):
    """Programs of one precision by name, what they do, and how long it took."""

    layers: Mapping[str, LayerProgram]
    steps: Mapping[str, updates.Stepper]
    compiled: Mapping[str, jax.stages.Compiled]
    demands: Mapping[str, Demand]
    times: Mapping[str, Timing]
    limits: Limits
    rounds: list[Limits]

    def row(self, name: str, row_name: str, **more: Any) -> Row:
        """Return the row of a program."""
        timing, demand = self.times[name], self.demands[name]
        return roofline_row(row_name, timing, demand, self.limits, self.rounds, **more)


def _measure_precision(
    tiny: bool, precision: str, folder: pathlib.Path | None
) -> list[Row]:
    sizes = used_sizes(tiny)
    found = _time_programs(tiny, precision, sizes)
    rows = []
    for name in STEPS:
        kept = folder / f"{name}_{precision}" if folder else None
        rows.append(_step_row(found, name, precision, sizes.batch_size, kept))
    rows += [_layer_row(found, name, precision) for name in LAYERS]
    rows += [_outside_row(found, name, precision) for name in STEPS]
    return [*rows, found.row(OPTIMISER, f"roofline.{OPTIMISER}_{precision}")]


def _time_programs(tiny: bool, precision: str, sizes: Sizes) -> _Measured:
    """Time the limits and all programs in turn."""
    calls = 1 if on_cpu() else ACCELERATOR_CALLS
    layers = {
        layer.name: compile_layer(layer) for layer in network_layers(sizes, precision)
    }
    ours = updates.our_steps(sizes, updates.draw_batch(sizes), precision)
    steps = {name: ours[theirs] for name, theirs in STEPS.items()}
    compiled = {name: step.compiled() for name, step in steps.items()}
    optimiser, demand = optimiser_job(sizes)
    demands = {name: layer.demand for name, layer in layers.items()}
    demands |= {OPTIMISER: demand}
    inside = sum(layer.demand.flops for layer in layers.values())
    for name, program in compiled.items():
        told = describe(program)
        # Compilers see nothing of products that they hand to a library.
        demands[name] = Demand(max(told["flops"], inside), moved_bytes(told))
    jobs: dict[str, Job] = {**limit_jobs(tiny, precision), **steps}
    jobs |= {name: layer.run for name, layer in layers.items()}
    jobs |= {OPTIMISER: optimiser}
    waited = {name: repeated(job, calls) for name, job in jobs.items()}
    times = {
        name: timing.over(calls)
        for name, timing in alternate(waited, sizes.rounds).items()
    }
    limits, rounds = find_limits(times, tiny), round_limits(times, tiny)
    return _Measured(layers, steps, compiled, demands, times, limits, rounds)


def _or_reason(profile: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a profile, or why there is none: profilers may be forbidden."""
    try:
        return profile()
    except NotMeasuredError as error:
        return {"not_profiled": str(error)}


def _step_row(
    found: _Measured,
    name: str,
    precision: str,
    batch_size: int,
    folder: pathlib.Path | None,
) -> Row:
    text = found.compiled[name].as_text() or ""
    more = _or_reason(partial(profile_steps, found.steps[name], text, folder))
    row_name = f"roofline.{name}_{precision}"
    inside = sum(layer.demand.flops for layer in found.layers.values())
    counted = "layers" if found.demands[name].flops == inside else "compiler"
    return found.row(name, row_name, batch=batch_size, counted=counted, **more)


def _layer_row(found: _Measured, name: str, precision: str) -> Row:
    row_name = f"roofline.layer_{name}_{precision}"
    if name not in found.layers:
        return not_measured(row_name, "the small network has fewer levels")
    layer = found.layers[name]
    more = _or_reason(partial(profile_products, layer.run, layer.text))
    row = found.row(name, row_name, counted=layer.counted, **more)
    if row["reason"] != "reached" and "products_s" in row:
        row["reason"] += (
            f"; traced, {1e3 * row['products_s']:.3g} ms are products and "
            f"{1e3 * row['others_s']:.3g} ms additions and copies"
        )
    return row


def _outside_row(found: _Measured, step: str, precision: str) -> Row:
    """Return the row of what a step does besides its layers."""
    row_name = f"roofline.outside_{step}_{precision}"
    left = found.times[step].best - sum(found.times[name].best for name in found.layers)
    if left <= 0:
        return not_measured(row_name, "the layers alone take as long as the step")
    alone = [layer.demand for layer in found.layers.values()]
    flops = found.demands[step].flops - sum(part.flops for part in alone)
    moved = found.demands[step].moved_bytes - sum(part.moved_bytes for part in alone)
    # Fused into a step, layers may move fewer bytes than alone.
    rest = Demand(max(flops, 0.0), max(moved, 0.0))
    return roofline_row(row_name, Timing((left,)), rest, found.limits)


def optimiser_job(sizes: Sizes) -> tuple[Job, Demand]:
    """Return the supervised step's update of the parameters alone.

    Args:
      sizes: of the network.
    """
    separator = make_separator(sizes.separator)
    params, _ = separator.init(jax.random.key(0), sizes.frontend)
    tx = optax.chain(
        optax.clip_by_global_norm(updates.CLIP_NORM),
        optax.adam(updates.SUPERVISED_RATE),
    )

    def update(carry: Any, grads: Any) -> Any:
        params, opt_state = carry
        params, opt_state, norms = apply_gradients(
            tx, params, opt_state, grads, jnp.asarray(True)
        )
        return (params, opt_state), norms

    carry = (params, tx.init(params))
    grads = jax.tree.map(jnp.ones_like, params)
    compiled = jax.jit(update, donate_argnums=0).lower(carry, grads).compile()
    told = describe(compiled)

    def run() -> Any:
        nonlocal carry
        carry, norms = compiled(carry, grads)
        return carry, norms

    return run, Demand(told["flops"], moved_bytes(told))
