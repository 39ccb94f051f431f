"""A profile of a few steps, and its seconds summed by part of the step."""

import pathlib
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from experiments.benchmarks.attribution import Part, Program, read_program
from experiments.benchmarks.rows import NotMeasuredError
from experiments.benchmarks.timing import Job

STEPS = 3
BETWEEN = "between operations"
"""Launches, waits, and threads that work on for an operation that has ended."""


class Event(NamedTuple):
    """An operation that ran, in nanoseconds."""

    start: float
    end: float
    op: str


def profile_steps(
    job: Job, text: str, folder: pathlib.Path | None = None
) -> dict[str, Any]:
    """Trace steps and return where their time went.

    Args:
      job: takes a step; it has run before.
      text: of the step's compiled program.
      folder: keeps the trace, for TensorBoard or Perfetto; None does not.

    Returns:
      ``profile``: rows of ``part``, ``forward_s`` and ``backward_s`` of one step, the
      largest first; what lies between operations is a part too.

    Raises:
      NotMeasuredError: the trace names none of the program's operations.
    """
    program = read_program(text)
    events = trace_job(job, program.module, folder)
    return {"profile": sum_parts(events, program, STEPS)}


def profile_products(job: Job, text: str) -> dict[str, float]:
    """Trace a program and return how much of its time went into products.

    Args:
      job: runs it; it has run before.
      text: of the compiled program.

    Returns:
      ``products_s`` of one run, and ``others_s`` of its additions and copies.

    Raises:
      NotMeasuredError: the trace names none of the program's operations.
    """
    program = read_program(text)
    taken = share_time(trace_job(job, program.module), program.control)
    products = sum(taken[name] for name in taken if name in program.products)
    others = sum(taken.values()) - products
    return {"products_s": products / STEPS, "others_s": others / STEPS}


def trace_job(job: Job, module: str, folder: pathlib.Path | None = None) -> list[Event]:
    """Run a job `STEPS` times and return what its program ran.

    Args:
      job: what is traced.
      module: the program's name.
      folder: keeps the trace; None does not.

    Raises:
      NotMeasuredError: there is nothing of it.
    """
    with tempfile.TemporaryDirectory() as spare:
        target = folder or pathlib.Path(spare)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0
        with jax.profiler.trace(str(target), profiler_options=options):
            for _ in range(STEPS):
                last = job()
            jax.block_until_ready(last)
        return read_trace(target, module)


def read_trace(folder: pathlib.Path, module: str) -> list[Event]:
    """Return what a program ran on its first device.

    Args:
      folder: of the trace; the newest one in it counts.
      module: the program's name.

    Raises:
      NotMeasuredError: there is nothing of it.
    """
    files = sorted(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise NotMeasuredError(f"the profiler left no trace in {folder}")
    data = jax.profiler.ProfileData.from_file(str(files[-1]))
    # jaxlib's own types lack a module, of which Python 3.12 warns; where warnings are
    # errors, that would end the process.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        planes = {plane.name: list(_operations(plane, module)) for plane in data.planes}
    # An accelerator's host names the operations that it starts: those do not count.
    order = sorted(planes, key=lambda name: (not name.startswith("/device:"), name))
    for name in order:
        if planes[name]:
            return planes[name]
    raise NotMeasuredError(f"the trace names no operation of {module}")


def _operations(plane: Any, module: str) -> Iterator[Event]:
    for line in plane.lines:
        for event in line.events:
            stats = dict(event.stats)
            if "hlo_op" in stats and stats.get("hlo_module") == module:
                yield Event(event.start_ns, event.end_ns, str(stats["hlo_op"]))


def sum_parts(
    events: Sequence[Event], program: Program, steps: int
) -> list[dict[str, Any]]:
    """Sum events by part, as `profile_steps` lists them.

    Args:
      events: of all steps.
      program: what ran.
      steps: how many of them there were.
    """
    totals: dict[Part, float] = defaultdict(float)
    other = Part("other", False)
    for op, seconds in share_time(events, program.control).items():
        totals[program.parts.get(op, other)] += seconds / steps
    first, last = min(e.start for e in events), max(e.end for e in events)
    waiting = (last - first) / 1e9 / steps - sum(totals.values())
    totals[Part(BETWEEN, False)] += max(waiting, 0.0)
    rows = [
        {
            "part": name,
            "forward_s": totals.get(Part(name, False), 0.0),
            "backward_s": totals.get(Part(name, True), 0.0),
        }
        for name in {part.name for part in totals}
    ]
    return sorted(rows, key=lambda row: -row["forward_s"] - row["backward_s"])


def share_time(
    events: Sequence[Event], control: Collection[str] = ()
) -> dict[str, float]:
    """Return the seconds of every operation; those that run at once share them.

    So that no moment counts twice, whatever ran on several lines of the trace.

    Args:
      events: in any order.
      control: operations that count only where no other one runs.
    """
    edges = [(event.start, 1, event.op) for event in events]
    edges += [(event.end, -1, event.op) for event in events]
    active: dict[str, int] = {}
    found: dict[str, float] = defaultdict(float)
    before = 0.0
    for now, change, op in sorted(edges):
        running = [name for name in active if name not in control] or list(active)
        for name in running:
            found[name] += (now - before) / 1e9 / len(running)
        active[op] = active.get(op, 0) + change
        if not active[op]:
            del active[op]
        before = now
    return dict(found)
