"""Charts and spectrograms as SVG that takes its colours and font from the page.

matplotlib draws with placeholder colours; `inline_svg` replaces them by the
page's CSS variables, so that one drawing serves a light and a dark page. Text
stays text. Nothing refers to anything outside the file.
"""

import io
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

PLACEHOLDERS = {
    "ink": "#010101",
    "muted": "#020202",
    "rule": "#030303",
    "supervised": "#040404",
    "continued": "#050505",
    "rl": "#060606",
}
"""CSS variable to a colour that no drawing uses otherwise."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",  # equal input, equal file
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": PLACEHOLDERS["rule"],
    "axes.labelcolor": PLACEHOLDERS["muted"],
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": PLACEHOLDERS["rule"],
    "grid.linewidth": 0.6,
    "xtick.color": PLACEHOLDERS["rule"],
    "ytick.color": PLACEHOLDERS["rule"],
    "xtick.labelcolor": PLACEHOLDERS["muted"],
    "ytick.labelcolor": PLACEHOLDERS["muted"],
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "axes.unicode_minus": True,
}
MAX_POINTS = 400
"""Points of a line: more than a panel has pixels only makes the file larger."""

LONG_LINE = 60
"""Points from which a line is drawn smoothed, with its rows faintly behind."""

FLOOR_DB = -60.0
"""Darkest level of a spectrogram, against the mixture's loudest bin."""

TICKS_HZ = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
MASK_COLOURS = LinearSegmentedColormap.from_list(
    "mask", ["#0b1416", "#0f5f5b", "#45b0a1", "#f2f7ee"]
)


class Line(NamedTuple):
    """One line of a panel: rows, the key to draw, a label and a CSS variable."""

    rows: Rows
    key: str
    label: str
    colour: str


def points(line: Line, axis: str = "step") -> tuple[np.ndarray, np.ndarray]:
    """Return the finite points of a line, thinned to `MAX_POINTS`.

    Rows that lack the key or the axis are passed over: training and evaluation
    rows stand in one file.
    """
    pairs = [
        (float(row[axis]), float(row[line.key]))
        for row in line.rows
        if isinstance(row.get(axis), (int, float))
        and isinstance(row.get(line.key), (int, float))
    ]
    array = np.asarray(pairs, dtype=float).reshape(-1, 2)
    array = array[np.isfinite(array).all(axis=1)]
    stride = max(1, -(-len(array) // MAX_POINTS))
    if len(array):  # the last point is the one that readers look for
        array = np.concatenate([array[:-1:stride], array[-1:]])
    return array[:, 0], array[:, 1]


def running_mean(values: np.ndarray) -> np.ndarray:
    """Return a centred mean over a twelfth of a long line; a short one as it is."""
    if len(values) < LONG_LINE:
        return values
    reach = len(values) // 24
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def line_chart(lines: Sequence[Line], axis: str = "step", label: str = "") -> str:
    """Draw lines over steps or seconds.

    Args:
      lines: what to draw; lines without points are left out.
      axis: ``step`` or ``wall_s``.
      label: what a screen reader says.

    Returns:
      An ``<svg>`` element, or "" where no line has two points.
    """
    drawn = [(line, *points(line, axis)) for line in lines]
    drawn = [(line, x, y) for line, x, y in drawn if len(x) > 1]
    if not drawn:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.5, 1.95), layout="constrained")
        axes = figure.add_subplot()
        for line, x, y in drawn:
            colour = PLACEHOLDERS[line.colour]
            smooth = running_mean(y)
            if smooth is not y:  # the rows themselves, faintly
                axes.plot(x, y, color=colour, alpha=0.28, linewidth=0.8)
            axes.plot(x, smooth, color=colour)
            axes.plot(x[-1:], smooth[-1:], "o", color=colour, markersize=3.5)
        axes.locator_params(axis="y", nbins=5)
        axes.locator_params(axis="x", nbins=5)
        axes.margins(x=0.02, y=0.12)
        axes.set_xlabel("seconds" if axis == "wall_s" else "updates")
        return inline_svg(figure, label)


def grid_level_db(
    waveform: np.ndarray,
    rate: int,
    grid_hz: np.ndarray,
    num_columns: int,
    reference: float,
) -> np.ndarray:
    """Return a waveform's level on the mask's grid, in dB against a magnitude.

    A Hann STFT with one frame a column, read at the rows' frequencies; made for
    the eye only, so NumPy is enough.
    """
    n_fft = 1024
    centres = np.linspace(0, max(len(waveform) - 1, 0), num_columns).astype(int)
    padded = np.pad(np.asarray(waveform, float), n_fft // 2)
    frames = padded[centres[:, None] + np.arange(n_fft)] * np.hanning(n_fft)
    magnitude = np.abs(np.fft.rfft(frames, axis=-1))
    bins_hz = np.fft.rfftfreq(n_fft, 1 / rate)
    rows = np.stack([np.interp(grid_hz, bins_hz, column) for column in magnitude])
    return 20 * np.log10(np.maximum(rows.T / reference, 1e-6))


def peak_magnitude(waveform: np.ndarray, rate: int, grid_hz: np.ndarray) -> float:
    """Return the loudest magnitude that `grid_level_db` would find, above zero."""
    level = grid_level_db(waveform, rate, grid_hz, 256, 1.0)
    return float(10 ** (level.max() / 20))


def spectrogram(
    level_db: np.ndarray, grid_hz: np.ndarray, duration_s: float, label: str
) -> str:
    """Draw levels ``[H, W]`` in dB between `FLOOR_DB` and 0 as an ``<svg>``."""
    limits = (FLOOR_DB, 0.0)
    return _image(level_db, grid_hz, duration_s, limits, "magma", label)


def mask_image(
    mask: np.ndarray, grid_hz: np.ndarray, duration_s: float, label: str
) -> str:
    """Draw a mask ``[H, W]`` between 0 and 1 as an ``<svg>``."""
    return _image(mask, grid_hz, duration_s, (0.0, 1.0), MASK_COLOURS, label)


def _image(
    values: np.ndarray,
    grid_hz: np.ndarray,
    duration_s: float,
    limits: tuple[float, float],
    colours: str | LinearSegmentedColormap,
    label: str,
) -> str:
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(2.7, 2.05), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(
            np.asarray(values, float),
            origin="lower",
            aspect="auto",
            interpolation="none",  # the array's own pixels go into the file
            cmap=colours,
            vmin=limits[0],
            vmax=limits[1],
            extent=(0.0, duration_s, 0.0, float(len(grid_hz))),
        )
        _hz_ticks(axes, grid_hz)
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel("seconds")
        return inline_svg(figure, label)


def save_example_figure(example: Mapping[str, Any], path: pathlib.Path) -> None:
    """Write mixture, mask, estimate and target of a report's example as a PNG."""
    rate, rows = int(example["rate"]), np.asarray(example["grid_hz"], float)
    columns = np.asarray(example["mask"]).shape[1]
    seconds = len(example["mixture"]) / rate
    loudest = peak_magnitude(example["mixture"], rate, rows)
    estimate = next(iter(example["estimates"].values()))

    def level(waveform: np.ndarray) -> np.ndarray:
        return grid_level_db(waveform, rate, rows, columns, loudest)

    panels: dict[str, tuple[np.ndarray, Any, tuple[float, float]]] = {
        "mixture": (level(example["mixture"]), "magma", (FLOOR_DB, 0.0)),
        "mask": (np.asarray(example["mask"]), MASK_COLOURS, (0.0, 1.0)),
        "estimate": (level(estimate), "magma", (FLOOR_DB, 0.0)),
        "target": (level(example["target"]), "magma", (FLOOR_DB, 0.0)),
    }
    figure = Figure(figsize=(10, 2.6), dpi=110, layout="constrained")
    for place, (title, (values, colours, limits)) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), place + 1)
        axes.imshow(
            values,
            origin="lower",
            aspect="auto",
            cmap=colours,
            vmin=limits[0],
            vmax=limits[1],
            extent=(0.0, seconds, 0.0, float(len(rows))),
        )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("seconds", fontsize=8)
        axes.tick_params(labelsize=7)
        if place:
            axes.set_yticks([])
        else:
            _hz_ticks(axes, rows)
    figure.suptitle(f"“{example['query']}”", fontsize=11)
    figure.savefig(path, metadata={"Software": None})


def _hz_ticks(axes: Axes, grid_hz: np.ndarray) -> None:
    """Label rows by frequency: rows are not evenly spaced in Hz."""
    rows = np.arange(len(grid_hz)) + 0.5
    at: list[float] = []
    names: list[str] = []
    for hz in reversed(TICKS_HZ):  # low rows may lie too close to label them all
        row = float(np.interp(hz, grid_hz, rows))
        apart = not at or at[-1] - row > 0.12 * len(grid_hz)
        if grid_hz[0] <= hz <= grid_hz[-1] and apart:
            at.append(row)
            names.append(f"{hz // 1000}k" if hz >= 1_000 else str(hz))
    axes.set_yticks(at, names)
    axes.set_ylabel("Hz")


def inline_svg(figure: Figure, label: str) -> str:
    """Return a figure as an ``<svg>`` element that belongs to its page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*font-family: [^;\"]*;?", "", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    for name, colour in PLACEHOLDERS.items():
        text = text.replace(colour, f"var(--{name})")
    # The page decides how wide it is; viewBox keeps the proportions.
    text = re.sub(r'(<svg[^>]*?) (width)="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) (height)="[^"]*"', r"\1", text, count=1)
    safe = label.replace("&", "and").replace('"', "'").replace("<", "")
    return text.replace("<svg", f'<svg role="img" aria-label="{safe}"', 1)
