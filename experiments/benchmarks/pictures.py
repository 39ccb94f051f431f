"""The pictures of `experiments.roofline_chart`: the roofline, and profiles by part."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

INK, MUTED, RULE = "#1b2426", "#5c6a6d", "#dfe5e5"
FORWARD, BACKWARD = "#2f7f8f", "#e0a458"
KINDS = {
    "step": ("steps", "#b3422e", "D", 52),
    "down": ("downward convolutions", "#2f7f8f", "o", 34),
    "up": ("upward convolutions", "#8a6fb0", "s", 32),
    "rest": ("the rest of a step", "#5c6a6d", "^", 38),
}
"""Kind of a point: legend, colour, marker, size."""

TITLES = {"supervised": "Supervised step", "rl_g8": "RL step, 8 masks a target"}
SMALLEST_SHARE = 0.004
"""Of a step, below which a part has no bar of its own."""

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
}


def select_rows(report: Mapping[str, Any], precision: str | None) -> dict[str, Any]:
    """Return a precision's measured rows by what they are of, and its name.

    Args:
      report: of `experiments.benchmark`.
      precision: None takes the first that was measured.

    Raises:
      ValueError: nothing of it was measured.
    """
    found: dict[str, Any] = {}
    for row in report["rows"]:
        suite, _, name = row["name"].partition(".")
        part, _, of = name.rpartition("_")
        if suite != "roofline" or "limits" not in row or of != (precision or of):
            continue
        precision = of
        found[part] = row
    if not found:
        raise ValueError(
            f"precision is {precision!r}, expected one with measured rows of roofline"
        )
    return {"precision": precision, "rows": found}


def draw(
    report: Mapping[str, Any], path: pathlib.Path, precision: str | None = None
) -> None:
    """Write roofline and profile as a PNG.

    Args:
      report: of `experiments.benchmark`.
      path: of the picture.
      precision: of the rows; None takes the first that was measured.

    Raises:
      ValueError: the report has no such rows.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    selected = select_rows(report, precision)
    measured = selected["rows"]
    # Logarithmic axes have no place for a program without operations.
    rows = {part: row for part, row in measured.items() if min(position(row)) > 0}
    profiled = {
        step: rows[step] for step in TITLES if rows.get(step, {}).get("profile")
    }
    with mpl.rc_context(STYLE):
        tall = 10.6 if profiled else 6.2
        figure = Figure(figsize=(11, tall), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        figure.set_facecolor("white")
        grid = figure.add_gridspec(
            2 if profiled else 1, 2, height_ratios=(1.25, 1) if profiled else None
        )
        axes = figure.add_subplot(grid[0, :])
        draw_roofline(axes, rows)
        axes.set_title(f"Roofline, {selected['precision']}, {place(report)}", pad=12)
        for column, (step, row) in enumerate(profiled.items()):
            draw_profile(figure.add_subplot(grid[1, column]), row, TITLES[step])
        # Where labels fit is known only once the axes have their places.
        figure.draw_without_rendering()
        label_bandwidth(axes, next(iter(rows.values()))["limits"]["bytes_per_s"])
        label_points(axes, rows)
        figure.savefig(path, format="png", metadata={"Software": None})


def place(report: Mapping[str, Any]) -> str:
    """Say what a report was measured on."""
    machine = report.get("machine", {})
    if machine.get("device") == "cpu":
        return f"{machine['cores']} cores of a CPU"
    return str(machine.get("device", ""))


def kind_of(part: str) -> str:
    """Return which of `KINDS` a row is."""
    if part in TITLES:
        return "step"
    for kind in ("down", "up"):
        if part.startswith(f"layer_{kind}"):
            return kind
    return "rest"


def position(row: Mapping[str, Any]) -> tuple[float, float]:
    """Return a point's operations a byte and operations a second."""
    return float(row["intensity"]), float(row["flops_per_s"])


def draw_roofline(axes: Any, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw both ceilings and every row's point under them."""
    limits = next(iter(rows.values()))["limits"]
    peak, bandwidth = limits["flops_per_s"], limits["bytes_per_s"]
    points = [position(row) for row in rows.values()]
    ridge = peak / bandwidth
    left = min([x for x, _ in points] + [ridge]) / 2
    right = max([x for x, _ in points] + [ridge]) * 3
    bottom = min([y for _, y in points] + [peak]) / 2
    top = max([1.6 * y for _, y in points] + [2.2 * peak])
    across = np.geomspace(left, right, 200)
    roof = np.minimum(peak, bandwidth * across)
    axes.plot(across, roof, color=INK, linewidth=1.6, zorder=2)
    axes.fill_between(across, roof, bottom, color="#f4f7f7", zorder=0)
    axes.plot([ridge] * 2, [bottom, peak], ":", color=MUTED, linewidth=0.9, zorder=1)
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(bottom, top))
    axes.grid(True, color=RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("operations a byte")
    axes.set_ylabel("operations a second")
    axes.annotate(
        f"matrix products: {scaled(peak)} operations/s",
        (right, peak),
        xytext=(-6, 6),
        textcoords="offset points",
        ha="right",
    )
    for kind, (label, colour, marker, size) in KINDS.items():
        chosen = [position(row) for part, row in rows.items() if kind_of(part) == kind]
        if chosen:
            x, y = zip(*chosen, strict=True)
            axes.scatter(
                x,
                y,
                size,
                colour,
                marker=marker,
                label=label,
                zorder=3,
                edgecolors="white",
            )
    axes.legend(loc="lower right", frameon=False)


def scaled(value: float) -> str:
    """Write a rate with three digits and its prefix, as ``296 G``."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "


def label_bandwidth(axes: Any, bandwidth: float) -> None:
    """Label the slope, along it."""
    left, bottom = axes.get_xlim()[0], axes.get_ylim()[0]
    start = max(1.15 * left, 1.3 * bottom / bandwidth)
    ends = [(at, bandwidth * at) for at in (start, 2 * start)]
    (x, y), (right, top) = axes.transData.transform(ends)
    axes.annotate(
        f"memory: {scaled(bandwidth)}B/s",
        ends[0],
        xytext=(-2, 8),
        textcoords="offset points",
        rotation=np.degrees(np.arctan2(top - y, right - x)),
        rotation_mode="anchor",
    )


def label_points(axes: Any, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Label every point at the nearest place that is free, with a line to it."""
    renderer = axes.figure.canvas.get_renderer()
    places = {
        part: axes.transData.transform(position(row)) for part, row in rows.items()
    }
    per_point = axes.figure.dpi / 72
    taken = [
        text.get_window_extent(renderer)
        for text in (*axes.texts, *axes.get_legend().get_texts())
    ]
    markers = np.array(list(places.values()))
    drawn = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    lines = np.concatenate([_densely(line) for line in drawn])
    inside = axes.get_window_extent(renderer)
    turns = np.arange(16) * np.pi / 8
    offsets = [
        (radius * np.cos(turn), radius * np.sin(turn))
        for radius in (8, 13, 19, 26, 34, 44, 56, 70)
        for turn in turns
    ]
    for part in sorted(places, key=lambda part: kind_of(part) != "step"):
        text = axes.annotate(
            part.removeprefix("layer_").replace("_", " "),
            position(rows[part]),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8.5,
            color=KINDS[kind_of(part)][1],
            va="center",
            zorder=4,
        )
        for x, y in offsets:
            text.set_ha("left" if x > 2 else "right" if x < -2 else "center")
            text.xyann = (x, y)
            box = text.get_window_extent(renderer).padded(1.5 * per_point)
            hits = (markers > box.min - 4 * per_point) & (
                markers < box.max + 4 * per_point
            )
            crossed = (lines > box.min) & (lines < box.max)
            free = not (hits.all(axis=1).any() or crossed.all(axis=1).any())
            free = free and not any(box.overlaps(other) for other in taken)
            if free and inside.contains(*box.min) and inside.contains(*box.max):
                break
        taken.append(text.get_window_extent(renderer))
        if np.hypot(*text.xyann) > 15:
            axes.annotate(
                "",
                position(rows[part]),
                xytext=text.xyann,
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5},
                zorder=2,
            )


def _densely(line: Any) -> Any:
    """Return a line's points so close that no label fits between them."""
    at = np.linspace(0, len(line) - 1, 600)
    return np.stack([np.interp(at, np.arange(len(line)), c) for c in line.T], axis=1)


def draw_profile(axes: Any, row: Mapping[str, Any], title: str) -> None:
    """Draw a step's seconds by part, forth and back, largest above."""
    rows = [dict(part) for part in row["profile"]]
    total = sum(part["forward_s"] + part["backward_s"] for part in rows)
    shown, rest = [], {"part": "smaller parts", "forward_s": 0.0, "backward_s": 0.0}
    for part in rows:
        if part["forward_s"] + part["backward_s"] >= SMALLEST_SHARE * total:
            shown.append(part)
        else:
            rest["forward_s"] += part["forward_s"]
            rest["backward_s"] += part["backward_s"]
    shown.append(rest)
    names = [part["part"].replace("_", " ") for part in shown]
    forward = [1e3 * part["forward_s"] for part in shown]
    backward = [1e3 * part["backward_s"] for part in shown]
    axes.barh(names, forward, 0.72, color=FORWARD, label="forward")
    axes.barh(names, backward, 0.72, left=forward, color=BACKWARD, label="backward")
    for place, (first, second) in enumerate(zip(forward, backward, strict=True)):
        share = (first + second) / (1e3 * total)
        axes.annotate(
            f"{share:.1%}" if share < 0.01 else f"{share:.0%}",
            (first + second, place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=MUTED,
        )
    axes.invert_yaxis()
    axes.margins(y=0.01)
    longest = max(a + b for a, b in zip(forward, backward, strict=True))
    axes.set_xlim(0, 1.12 * longest)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("milliseconds of a step, traced")
    axes.set_title(f"{title}: {1e3 * total:.3g} ms", pad=8)
    axes.legend(loc="lower right", frameon=False)
