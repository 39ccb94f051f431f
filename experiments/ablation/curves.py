"""Metrics on the way of a training stage, against masks heard and against seconds."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.ablation.grid import Curve, Grid
from experiments.ablation.plan import Plan, Task
from experiments.ablation.tables import line
from marssep_jax.row_file import RowFile
from marssep_jax.statistics import t_ci
from marssep_jax.training.meters import COMPILE_S

AXES = {"samples": "masks heard", "wall_s": "seconds"}
NOTE = """\
First and last value of each curve, means over seeds. A mask heard is one sample: steps
times mixtures, sources and masks of a group. Seconds are those of steps, without
compilation and evaluation. A run has collapsed if it ended further below its first
value than stated."""

Record = dict[str, Any]


class Run(NamedTuple):
    """A curve of one run: equally many samples, seconds and values."""

    samples: list[int]
    wall_s: list[float]
    values: list[float]


def samples_a_step(task: Task) -> int:
    """Return the masks that one step hears; a supervised step hears none."""
    settings = task.settings
    if settings["stage"] != "policy":
        return 0
    mixtures = settings["training"]["batch_size"] * settings["data"]["num_sources"]
    return int(mixtures * settings["rl"]["group_size"])


def read_curves(grid: Grid, plan: Plan, runs: pathlib.Path) -> list[Record]:
    """Return a record for each curve and variant that has rows.

    Args:
      grid: the grid.
      plan: of `make_plan`.
      runs: folder of the runs.

    Returns:
      ``label``, ``name`` of the variant, ``runs`` (seed -> `Run`, as lists),
      ``first`` and ``last`` (means over seeds), ``change`` (last - first, and its
      ``change_ci95`` over seeds), ``num_runs`` and, where the curve
      asks for it, ``collapsed`` (how many).
    """
    found = []
    for curve in grid.curves:
        for variant in grid.variants:
            read = {
                str(seed): run
                for seed in grid.seeds
                if (run := _read(curve, plan, variant.name, seed, runs)) is not None
            }
            if read:
                found.append(_described(curve, variant.name, read))
    return found


def _read(
    curve: Curve, plan: Plan, variant: str, seed: int, runs: pathlib.Path
) -> Run | None:
    task = plan.tasks[plan.cells[variant, seed][curve.stage]]
    name = task.settings["name"]
    written = RowFile(runs / task.key / "metrics.jsonl", name).rows()
    rows = [row for row in written if _is_number(row.get(curve.key))]
    if not rows:
        return None
    each, compiling = samples_a_step(task), _compile_s(written)
    return Run(
        [row["step"] * each for row in rows],
        [max(0.0, row["wall_s"] - compiling) for row in rows],
        [row[curve.key] for row in rows],
    )


def _compile_s(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return what compiling took of the stepping time: it is in the first step's row.

    The row of the start, step 0, has what its evaluation took.
    """
    return next((row.get(COMPILE_S, 0.0) for row in rows if row["step"]), 0.0)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _described(curve: Curve, variant: str, read: Mapping[str, Run]) -> Record:
    first, last = (
        np.array([run.values[place] for run in read.values()]) for place in (0, -1)
    )
    interval = t_ci(last - first)
    record: Record = {
        "label": curve.label,
        "name": variant,
        "runs": {seed: run._asdict() for seed, run in read.items()},
        "first": float(np.mean(first)),
        "last": float(np.mean(last)),
        "change": float(np.mean(last - first)),
        "change_ci95": None if interval is None else list(interval),
        "num_runs": len(read),
    }
    if curve.collapse:
        record["collapsed"] = int(np.sum(first - last > curve.collapse))
    return record


def markdown(grid: Grid, curves: Sequence[Record]) -> str:
    """Lay first and last values out as a table, with the count of collapsed runs."""
    names = ["variant", *(curve.label for curve in grid.curves)]
    names += [
        f"{curve.label}: fell by more than {curve.collapse:g}"
        for curve in grid.curves
        if curve.collapse
    ]
    lines = ["## Curves", "", line(names), line(["---"] * len(names))]
    for variant in grid.variants:
        own = {c["label"]: c for c in curves if c["name"] == variant.name}
        if not own:
            continue
        cells = [_change(own.get(curve.label)) for curve in grid.curves]
        cells += [
            _share(own.get(curve.label)) for curve in grid.curves if curve.collapse
        ]
        lines.append(line([variant.name, *cells]))
    return "\n".join([*lines, "", NOTE, ""])


def _change(record: Record | None) -> str:
    return f"{record['first']:.3f} to {record['last']:.3f}" if record else "-"


def _share(record: Record | None) -> str:
    return f"{record['collapsed']} of {record['num_runs']}" if record else "-"


def save_curves(grid: Grid, curves: Sequence[Record], path: pathlib.Path) -> None:
    """Draw a row of panels for each curve, a column for each axis, as a PNG.

    A faint line is a run, a thick one the mean over the seeds, as far as all of them
    go.
    """
    size = (5.0 * len(AXES), 2.9 * len(grid.curves) + 0.6)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(len(grid.curves), len(AXES), squeeze=False)
    colours = {variant.name: f"C{i % 10}" for i, variant in enumerate(grid.variants)}
    for curve, row in zip(grid.curves, panels, strict=True):
        own = [record for record in curves if record["label"] == curve.label]
        for axes, axis in zip(row, AXES, strict=True):
            _draw(axes, own, axis, colours)
            axes.set_ylabel(curve.label, fontsize=8)
    handles = {
        label: drawn
        for axes in panels.flat
        for drawn, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        [*handles.values()],
        [*handles],
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(grid.title, fontsize=10)
    figure.savefig(path, metadata={"Software": None})


def _draw(
    axes: Axes, records: Sequence[Record], axis: str, colours: Mapping[str, str]
) -> None:
    for record in records:
        colour, runs = colours[record["name"]], [*record["runs"].values()]
        for run in runs:
            axes.plot(run[axis], run["values"], color=colour, alpha=0.25, linewidth=0.7)
        length = min(len(run["values"]) for run in runs)
        mean_x, mean_y = (
            np.mean([run[name][:length] for run in runs], axis=0)
            for name in (axis, "values")
        )
        axes.plot(mean_x, mean_y, color=colour, linewidth=1.8, label=record["name"])
    axes.set_xlabel(AXES[axis], fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
