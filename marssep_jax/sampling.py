"""Draw Beta masks by looking their quantiles up in a table.

With alpha = 1 + kappa P and beta = 1 + kappa (1 - P) the sum alpha + beta is
fixed, so for one kappa all the Betas form a family of the single parameter P: a
table over (P, u) holds every quantile. A draw is then one uniform and four reads,
where ``jax.random.beta`` runs a rejection loop, a hundred times slower or so
on a CPU.
"""

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

# log(0) waits at both ends of the support, so a sample keeps this distance from
# them. Wide enough that 1 - m still has 8 bits in float32 and |log m| stays below
# 11.1; narrow enough that the mass moved onto the edge, at most (1 + kappa) times
# the margin (1.5e-4 for kappa = 9, P = 0), is a ninth of what a Kolmogorov-Smirnov
# test on a million draws can see (1.36e-3). A margin of 1e-3 would fail that test.
MASK_MARGIN = 2.0**-16

# The largest error of the CDF is 1.6e-4 for kappa = 9 (3.5e-4 for 30, 9e-4 for
# 100), and the table is 130 kB: it stays in a core's cache.
NUM_ROWS, NUM_COLUMNS = 129, 257

# Of the difference quotient in P. Quantiles are good to 1e-14, so their difference
# over this step is good to 1e-10; its own error is of the step's second order.
SLOPE_STEP = 1e-4


class Corner(NamedTuple):
    """Where a value lies on a grid: the node below it, and the way to the next."""

    node: Array
    fraction: Array


def check_kappa(kappa: float) -> None:
    """Raise unless a concentration is a positive number.

    Raises:
      ValueError: it is not.
    """
    if not 0.0 < kappa < float("inf"):
        raise ValueError(f"kappa is {kappa!r}, expected a positive number")


def clamp_mask(mask: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Keep mask values ``MASK_MARGIN`` away from 0 and 1."""
    return jnp.clip(mask, MASK_MARGIN, 1.0 - MASK_MARGIN)


def _coordinate(value: Float[Array, "*s"]) -> Float[Array, "*s"]:
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


def _corner(coordinate: Float[Array, "*s"], count: int) -> Corner:
    position = coordinate * (count - 1)
    # The clip also sends NaN to a valid index; the fraction stays NaN, so that a
    # broken proposal gives a NaN mask instead of a read outside the table.
    index = jnp.clip(position.astype(jnp.int32), 0, count - 2)
    return Corner(index, position - index)


def _interpolate(table: np.ndarray, row: Corner, column: Corner) -> Array:
    """Interpolate bilinearly; row and column have equal or broadcast shapes."""
    flat, width = jnp.asarray(table.ravel()), table.shape[1]
    origin = row.node * width + column.node

    def read(offset: int) -> Array:
        return flat.at[origin + offset].get(mode="promise_in_bounds")

    below = read(0) + column.fraction * (read(1) - read(0))
    above = read(width) + column.fraction * (read(width + 1) - read(width))
    return below + row.fraction * (above - below)


def num_patches(size: int, patch: int) -> int:
    """Count the patches along one axis; the last one may be smaller."""
    return -(-size // patch)


def repeat_patches(
    values: Float[Array, "*s i j"], patch: tuple[int, int], height: int, width: int
) -> Float[Array, "*s h w"]:
    """Give every bin the value of its patch; patches at the far edges are cut."""
    rows = jnp.repeat(values, patch[0], axis=-2)[..., :height, :]
    return jnp.repeat(rows, patch[1], axis=-1)[..., :width]


def check_patch(name: str, patch: tuple[int, int]) -> None:
    """Raise unless a patch is a pair of positive numbers of bins.

    Raises:
      ValueError: it is not.
    """
    if len(patch) != 2 or min(patch) < 1:
        raise ValueError(f"{name} is {patch!r}, expected (rows >= 1, columns >= 1)")


def _uniform_coordinate(
    key: PRNGKeyArray, shape: tuple[int, ...], patch: tuple[int, int]
) -> Float[Array, "*s"]:
    """Draw the table coordinate of one uniform per patch."""
    if patch == (1, 1):
        return _coordinate(jax.random.uniform(key, shape))
    if len(shape) < 2:
        raise ValueError(f"proposal has shape {shape}, expected [..., H, W]")
    height, width = shape[-2:]
    counts = (num_patches(height, patch[0]), num_patches(width, patch[1]))
    shared = _coordinate(jax.random.uniform(key, (*shape[:-2], *counts)))
    return repeat_patches(shared, patch, height, width)


def _corners(
    key: PRNGKeyArray,
    proposal: Float[Array, "*s"],
    noise_patch: tuple[int, int],
    mirrored: bool,
) -> tuple[Corner, Corner]:
    """Find where P and a fresh u lie in a table; neither carries a gradient."""
    proposal = jax.lax.stop_gradient(proposal).astype(jnp.float32)
    uniform = _uniform_coordinate(key, proposal.shape, noise_patch)
    if mirrored:  # the stretch of the axis is symmetric
        uniform = 1.0 - uniform
    return _corner(_coordinate(proposal), NUM_ROWS), _corner(uniform, NUM_COLUMNS)


def draw_by_table(
    key: PRNGKeyArray,
    proposal: Float[Array, "*s"],
    kappa: float = 9.0,
    noise_patch: tuple[int, int] = (1, 1),
    *,
    mirrored: bool = False,
) -> Float[Array, "*s"]:
    """Draw M = F^-1(u; P), with one uniform u per patch of bins (section 1).

    Every bin is distributed as Beta(1 + kappa P, 1 + kappa (1 - P)) of its own P,
    whatever the patch. Only with 1 x 1 are the bins independent.

    Args:
      key: random key.
      proposal: P in [0, 1]; its last two axes are the grid if noise is shared.
      kappa: concentration.
      noise_patch: (frequency rows, time columns) that share a uniform.
      mirrored: use 1 - u, the antithetic draw of the same key.

    Returns:
      Masks of the proposal's shape, float32, ``MASK_MARGIN`` inside (0, 1).
      Nothing is differentiated: a path through the sample would add itself to
      the score-function gradient.
    """
    corners = _corners(key, proposal, noise_patch, mirrored)
    mask = _interpolate(quantile_table(float(kappa)), *corners)
    return jax.lax.stop_gradient(clamp_mask(mask))


def draw_with_path(
    key: PRNGKeyArray,
    proposal: Float[Array, "*s"],
    kappa: float = 9.0,
    noise_patch: tuple[int, int] = (1, 1),
) -> Float[Array, "*s"]:
    """Draw what ``draw_by_table`` draws, differentiable in the proposal.

    The derivative is that of F^-1(u; P) at fixed u, from ``slope_table``, and 0
    where a draw was clamped. Gradients of a reward through it are pathwise: exact
    in expectation for the masks as they are drawn, shared noise included.

    Args:
      key: random key.
      proposal: P in [0, 1]; its last two axes are the grid if noise is shared.
      kappa: concentration.
      noise_patch: (frequency rows, time columns) that share a uniform.
    """
    corners = _corners(key, proposal, noise_patch, mirrored=False)
    drawn = _interpolate(quantile_table(float(kappa)), *corners)
    slope = _interpolate(slope_table(float(kappa)), *corners)
    mask = clamp_mask(drawn)
    slope = jax.lax.stop_gradient(jnp.where(mask == drawn, slope, 0.0))
    proposal = proposal.astype(jnp.float32)
    move = proposal - jax.lax.stop_gradient(proposal)  # 0, with a slope of 1
    return jax.lax.stop_gradient(mask) + slope * move


def draw_by_rejection(
    key: PRNGKeyArray, proposal: Float[Array, "*s"], kappa: float = 9.0
) -> Float[Array, "*s"]:
    """Draw independent masks with ``jax.random.beta``: the reference, slow.

    Args and result are those of ``draw_by_table``.
    """
    proposal = jax.lax.stop_gradient(proposal).astype(jnp.float32)
    mask = jax.random.beta(key, 1.0 + kappa * proposal, 1.0 + kappa * (1.0 - proposal))
    return jax.lax.stop_gradient(clamp_mask(mask))
