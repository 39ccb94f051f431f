"""The table and the plot of a grid."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.ablation.grid import Grid, Metric

Row = Mapping[str, Any]
NOTE = """\
Means over seeds with 95 % intervals of Student's t over seeds (of one run: none). A
difference is taken seed by seed to the variant that it names. Its first interval is
over seeds, of trainings that might have ended elsewhere; its second is a bootstrap over
the test mixtures, for the trainings at hand. No interval is widened for the number of
comparisons: of twenty that mean nothing, one is expected to leave zero out."""


def markdown(grid: Grid, rows: Sequence[Row], command: str) -> str:
    """Lay means and differences out as two tables.

    Args:
      grid: the grid.
      rows: of `experiments.ablation.results.summarise`.
      command: what made them.
    """
    lines = [f"# {grid.title}", "", f"    {command}", "", *_means(grid, rows), ""]
    differences = _differences(grid, rows)
    if differences:
        lines += ["## Differences", "", *differences, ""]
    lines += [NOTE, ""]
    failed = {key: why for row in rows for key, why in row["failed"].items()}
    if failed:
        lines += ["## Failed", ""]
        lines += [*(f"- `{key}`: {why}" for key, why in failed.items()), ""]
    return "\n".join(lines)


def _means(grid: Grid, rows: Sequence[Row]) -> list[str]:
    labels = [metric.label for metric in grid.metrics]
    found = [line(["variant", *labels, "runs"]), line(["---"] * (len(labels) + 2))]
    for row in rows:
        cells = [
            _cell(row["metrics"].get(metric.label), metric) for metric in grid.metrics
        ]
        runs = max((entry["runs"] for entry in row["metrics"].values()), default=0)
        found.append(line([row["name"], *cells, str(runs)]))
    return found


def _differences(grid: Grid, rows: Sequence[Row]) -> list[str]:
    names = ["variant", "minus", "metric", "difference", "over seeds", "over mixtures"]
    found = []
    for row in rows:
        for metric in grid.metrics:
            entry = row["difference"].get(metric.label)
            if entry is not None:
                found.append(
                    line(
                        [
                            *(row["name"], entry["to"], metric.label),
                            f"{entry['mean']:+.{metric.decimals}f}",
                            _interval(entry["ci95"], metric, "+"),
                            _interval(entry["ci95_mixtures"], metric, "+"),
                        ]
                    )
                )
    return [line(names), line(["---"] * len(names)), *found] if found else []


def line(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(entry: Row | None, metric: Metric) -> str:
    if entry is None:
        return "-"
    interval = _interval(entry["ci95"], metric)
    mean = f"{entry['mean']:.{metric.decimals}f}"
    return mean if interval == "-" else f"{mean} ({interval})"


def _interval(ends: Sequence[float] | None, metric: Metric, sign: str = "") -> str:
    if ends is None:
        return "-"
    return " to ".join(f"{end:{sign}.{metric.decimals}f}" for end in ends)


def save_plot(grid: Grid, rows: Sequence[Row], path: pathlib.Path) -> None:
    """Draw differences to the reference, a panel for each metric, as a PNG.

    A dot is a seed, a thick line the interval over seeds, a thin one over mixtures.
    A metric without differences is drawn as it is.
    """
    drawn = [m for m in grid.metrics if not grid.plot or m.label in grid.plot]
    size = (1.8 + 2.8 * len(drawn), 1.2 + 0.32 * len(rows))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panels = figure.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, drawn, strict=True):
        _draw(axes, rows, metric)
    panels[0].set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.suptitle(grid.title, fontsize=10)
    figure.savefig(path, metadata={"Software": None})


def _draw(axes: Axes, rows: Sequence[Row], metric: Metric) -> None:
    label = metric.label
    paired = any(label in row["difference"] for row in rows)
    entries = {
        index: entry
        for index, row in enumerate(rows)
        if (entry := row["difference" if paired else "metrics"].get(label))
    }
    for index, entry in entries.items():
        values = np.array([*entry["values"].values()])
        axes.plot(values, np.full(len(values), index), ".", color="C1", zorder=4)
        for name, width in (("ci95_mixtures", 1.0), ("ci95", 4.0)):
            if ends := entry.get(name):
                axes.plot(ends, [index, index], color="C0", linewidth=width, zorder=1)
        axes.plot(entry["mean"], index, "o", color="C0", zorder=3)
    if paired:
        axes.axvline(0.0, color="0.3", linewidth=0.8, zorder=0)
    axes.set_title(f"{label}: difference" if paired else label, fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
