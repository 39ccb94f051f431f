"""Charts of an evaluation: a bar for each class, a dot for each target."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from experiments.figures import PLACEHOLDERS, STYLE, inline_svg
from marssep_jax.statistics import bootstrap_ci

MAX_BARS = 40
"""Of more classes the best and the worst halves of this are drawn."""

MAX_DOTS = 1_500
INCHES_PER_BAR = 0.21


class ClassScore(NamedTuple):
    """Mean of a class's targets, its 95 % interval, and how many there are."""

    name: str
    mean: float
    low: float
    high: float
    num_targets: int


def class_scores(
    score: np.ndarray, label: np.ndarray, names: Sequence[str]
) -> list[ClassScore]:
    """Return the classes that have scores, the best first.

    Args:
      score: by target, any shape; NaN is passed over.
      label: class of each target.
      names: of the classes.
    """
    found = []
    for number, name in enumerate(names):
        own = score[(label == number) & np.isfinite(score)]
        if own.size:
            low, high = bootstrap_ci(own, seed=0, num_resamples=2_000)
            found.append(ClassScore(name, float(own.mean()), low, high, own.size))
    return sorted(found, key=lambda entry: -entry.mean)


def class_bars(scores: Sequence[ClassScore], title: str) -> str:
    """Draw a bar and an interval for each class; "" where there are none."""
    if not scores:
        return ""
    if len(scores) > MAX_BARS:
        scores = [*scores[: MAX_BARS // 2], *scores[-MAX_BARS // 2 :]]
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        height = 0.5 + INCHES_PER_BAR * len(scores)
        figure = Figure(figsize=(5.2, height), layout="constrained")
        axes = figure.add_subplot()
        at = np.arange(len(scores))[::-1]
        mean = np.asarray([entry.mean for entry in scores])
        reach = [
            mean - [entry.low for entry in scores],
            [entry.high for entry in scores] - mean,
        ]
        axes.barh(at, mean, height=0.62, color=PLACEHOLDERS["rl"], alpha=0.75)
        axes.errorbar(
            mean,
            at,
            xerr=np.maximum(reach, 0),
            fmt="none",
            ecolor=PLACEHOLDERS["ink"],
            elinewidth=1.0,
        )
        axes.set_axisbelow(True)
        axes.axvline(0, color=PLACEHOLDERS["muted"], linewidth=0.8)
        axes.set_yticks(at, [f"{e.name} ({e.num_targets})" for e in scores])
        axes.margins(y=0.02)
        axes.set_xlabel(title)
        return inline_svg(figure, f"{title} by class")


def scatter(x: np.ndarray, y: np.ndarray, x_title: str, y_title: str) -> str:
    """Draw a dot for each target that has both scores; "" where fewer than two do.

    Of many targets evenly spaced ones are drawn.
    """
    x, y = _both(x, y)
    if len(x) < 2:
        return ""
    stride = -(-len(x) // MAX_DOTS)
    with mpl.rc_context(STYLE | {"axes.grid.axis": "both"}):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(
            x[::stride],
            y[::stride],
            "o",
            color=PLACEHOLDERS["rl"],
            markersize=3.2,
            alpha=0.45,
            markeredgewidth=0,
        )
        axes.set_xlabel(x_title)
        axes.set_ylabel(y_title)
        return inline_svg(figure, f"{y_title} against {x_title}")


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Spearman's rank correlation; NaN where one of the two is constant."""
    x, y = _both(x, y)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(scipy.stats.spearmanr(x, y).statistic)


def _both(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fine = np.isfinite(x) & np.isfinite(y)
    return x[fine], y[fine]
