"""Quantiles of a mask's Beta, tabulated over its proposal, and their slopes.

With alpha = 1 + kappa P and beta = 1 + kappa (1 - P) the sum alpha + beta is
fixed, so for one kappa all the Betas form a family of the single parameter P: a
table over (P, u) holds every quantile.
"""

from functools import lru_cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# The largest error of the CDF is 1.6e-4 for kappa = 9 (3.5e-4 for 30, 9e-4 for
# 100), and the table is 130 kB: it stays in a core's cache.
NUM_ROWS, NUM_COLUMNS = 129, 257

# Of the difference quotient in P. Quantiles are good to 1e-14, so their difference
# over this step is good to 1e-10; its own error is of the step's second order.
SLOPE_STEP = 1e-4


def check_kappa(kappa: float) -> None:
    """Raise unless a concentration is a positive number.

    Raises:
      ValueError: it is not.
    """
    if not 0.0 < kappa < float("inf"):
        raise ValueError(f"kappa is {kappa!r}, expected a positive number")


def coordinate(value: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Map [0, 1] onto itself, stretching both ends like a square root.

    The inverse of v -> v^2 / (v^2 + (1 - v)^2). At the ends it does what
    (2 / pi) arcsin(sqrt(value)) does, without the arcsine, which would cost a CPU
    more than the rest of the draw.
    """
    # Rounding can put a mean of proposals just above 1, where the root is NaN.
    value = jnp.clip(value, 0.0, 1.0)
    low, high = jnp.sqrt(value), jnp.sqrt(1.0 - value)
    return low / (low + high)


def _nodes(count: int) -> np.ndarray:
    v = np.linspace(0.0, 1.0, count)
    return v**2 / (v**2 + (1.0 - v) ** 2)


@lru_cache(maxsize=16)  # an annealed kappa visits a few values; each takes 10 ms
def quantile_table(kappa: float) -> np.ndarray:
    """Tabulate the quantiles of Beta(1 + kappa P, 1 + kappa (1 - P)).

    The nodes of both axes are dense towards 0 and 1: in u because the quantiles
    bend there like roots, in P because a Beta changes fastest near its limits.

    Args:
      kappa: concentration of the policy.

    Returns:
      float32 of shape [129 values of P, 257 values of u], not writeable.

    Raises:
      ValueError: kappa is not a positive number.
    """
    check_kappa(kappa)
    from scipy.special import betaincinv  # = scipy.stats.beta.ppf, imported faster

    p, u = _nodes(NUM_ROWS)[:, None], _nodes(NUM_COLUMNS)[None]
    table = betaincinv(1.0 + kappa * p, 1.0 + kappa * (1.0 - p), u)
    table = table.astype(np.float32)
    table.setflags(write=False)  # the cache hands out one array to everybody
    return table


@lru_cache(maxsize=16)
def slope_table(kappa: float) -> np.ndarray:
    """Tabulate how the quantiles move with the proposal, dM / dP at fixed u.

    It is the implicit derivative -(dF / dP) / f of the reparameterised Beta
    (Figurnov et al., 2018), without the derivative of an incomplete beta function:
    the quantiles of the neighbours in P, in double precision, are subtracted.

    Args:
      kappa: concentration of the policy.

    Returns:
      float32 on the nodes of ``quantile_table``, not writeable.

    Raises:
      ValueError: kappa is not a positive number.
    """
    check_kappa(kappa)
    from scipy.special import betaincinv

    p, u = _nodes(NUM_ROWS)[:, None], _nodes(NUM_COLUMNS)[None]
    # Symmetric inside; at P = 0 and P = 1 the step goes inwards only, with an error
    # of first order in it.
    low, high = np.clip(p - SLOPE_STEP, 0.0, 1.0), np.clip(p + SLOPE_STEP, 0.0, 1.0)
    quantile_low, quantile_high = (
        betaincinv(1.0 + kappa * q, 1.0 + kappa * (1.0 - q), u) for q in (low, high)
    )
    table = ((quantile_high - quantile_low) / (high - low)).astype(np.float32)
    table.setflags(write=False)
    return table


class Concentration(NamedTuple):
    """A kappa with its tables: as an argument it may change in a compiled function.

    Attributes:
      kappa: the concentration.
      quantile: its `quantile_table`.
      slope: its `slope_table`.
    """

    kappa: np.float32 | Float[Array, ""]
    quantile: np.ndarray | Float[Array, "p u"]
    slope: np.ndarray | Float[Array, "p u"]


Kappa = float | Concentration


def make_concentration(kappa: float) -> Concentration:
    """Return a kappa that functions take as an argument instead of a constant.

    Its arrays are NumPy's: it may be made while a function is being compiled.

    Raises:
      ValueError: kappa is not a positive number.
    """
    check_kappa(kappa)
    tables = (quantile_table(float(kappa)), slope_table(float(kappa)))
    return Concentration(np.float32(kappa), *tables)


def quantiles_of(kappa: Kappa) -> np.ndarray | Array:
    """Return the quantiles of either kind."""
    if isinstance(kappa, Concentration):
        return kappa.quantile
    return quantile_table(float(kappa))


def slopes_of(kappa: Kappa) -> np.ndarray | Array:
    """Return the slopes of either kind."""
    return (
        kappa.slope if isinstance(kappa, Concentration) else slope_table(float(kappa))
    )


def number_of(kappa: Kappa) -> float | Array:
    """Return the concentration itself."""
    number = kappa.kappa if isinstance(kappa, Concentration) else kappa
    return float(number) if isinstance(number, np.float32) else number
