"""Intervals of means: seeded bootstrap, paired or not, Student's t; a paired test."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 10_000
"""Moves an end of a 95 % interval by about 2 % of its width from seed to seed."""

BLOCK = 1 << 20
"""Draws made at once: bounds memory whatever the number of values."""

Values = Sequence[float] | np.ndarray


class Interval(NamedTuple):
    """Ends of a confidence interval."""

    low: float
    high: float


def _checked(name: str, values: Values) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape}, expected one axis with values"
        )
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name}[{bad}] is {array[bad]}, expected finite values")
    return array


def bootstrap_ci(
    values: Values,
    seed: int,
    *,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Return the percentile bootstrap interval of the mean.

    Args:
      values: one number per independent item.
      seed: same seed, same interval, on every machine.
      level: confidence, in (0, 1).
      num_resamples: resampled means.

    Returns:
      Both ends; a single value is its own interval.

    Raises:
      ValueError: no values, values that are not finite, or options out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected a number in (0, 1)")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}, expected >= 1")
    array = _checked("values", values)
    rng = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    step = max(1, BLOCK // array.size)
    for start in range(0, num_resamples, step):
        stop = min(start + step, num_resamples)
        index = rng.integers(0, array.size, (stop - start, array.size))
        means[start:stop] = array[index].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _checked_pair(a: Values, b: Values) -> tuple[np.ndarray, np.ndarray]:
    first, second = _checked("a", a), _checked("b", b)
    if first.size != second.size:
        raise ValueError(f"b has {second.size} values, expected {first.size} as in a")
    return first, second


def paired_bootstrap_ci(
    a: Values,
    b: Values,
    seed: int,
    *,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Return the bootstrap interval of mean(a - b) over the same items.

    Args:
      a: one number per item, under the first condition.
      b: the same items in the same order, under the second.
      seed: same seed, same interval, on every machine.
      level: confidence, in (0, 1).
      num_resamples: resampled means.

    Returns:
      Both ends; above zero, ``a`` is the greater beyond the spread of the items.

    Raises:
      ValueError: as `bootstrap_ci`, or lengths that differ.
    """
    first, second = _checked_pair(a, b)
    return bootstrap_ci(first - second, seed, level=level, num_resamples=num_resamples)


def wilcoxon_p(a: Values, b: Values) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test of a against b.

    Items with equal values are left out (Wilcoxon's own treatment). It asks whether
    the differences lie around zero, not whether their mean is zero. Exact below 51
    items without ties, else by the normal approximation.

    Args:
      a: one number per item, under the first condition.
      b: the same items in the same order, under the second.

    Returns:
      p in [0, 1]; 1 where no item differs.

    Raises:
      ValueError: no values, values that are not finite, or lengths that differ.
    """
    first, second = _checked_pair(a, b)
    difference = first - second
    difference = difference[difference != 0]
    if not difference.size:
        return 1.0
    import scipy.stats  # slow to import, and needed here only

    return float(scipy.stats.wilcoxon(difference).pvalue)


def t_ci(values: Values, *, level: float = 0.95) -> Interval | None:
    """Return Student's t interval of the mean, for a handful of values.

    A bootstrap of three values knows three values: its interval is far too short.

    Args:
      values: independent numbers, about normally distributed.
      level: confidence, in (0, 1).

    Returns:
      Both ends; None of a single value, which says nothing of its spread.

    Raises:
      ValueError: as `bootstrap_ci`.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, expected a number in (0, 1)")
    array = _checked("values", values)
    if array.size == 1:
        return None
    from scipy.special import stdtrit  # = scipy.stats.t.ppf, imported faster

    error = array.std(ddof=1) / np.sqrt(array.size)
    reach = float(stdtrit(array.size - 1, (1 + level) / 2) * error)
    mean = float(array.mean())
    return Interval(mean - reach, mean + reach)
