"""Draw Beta masks by looking their quantiles up in a table.

A draw is one uniform and four reads of `marssep_jax.quantiles`, where
``jax.random.beta`` runs a rejection loop, a hundred times slower or so on a CPU.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.quantiles import (
    NUM_COLUMNS,
    NUM_ROWS,
    Kappa,
    coordinate,
    number_of,
    quantiles_of,
    slopes_of,
)

# log(0) waits at both ends of the support, so a sample keeps this distance from
# them. Wide enough that 1 - m still has 8 bits in float32 and |log m| stays below
# 11.1; narrow enough that the mass moved onto the edge, at most (1 + kappa) times
# the margin (1.5e-4 for kappa = 9, P = 0), is a ninth of what a Kolmogorov-Smirnov
# test on a million draws can see (1.36e-3). A margin of 1e-3 would fail that test.
MASK_MARGIN = 2.0**-16


class Corner(NamedTuple):
    """Where a value lies on a grid: the node below it, and the way to the next."""

    node: Array
    fraction: Array


def clamp_mask(mask: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Keep mask values ``MASK_MARGIN`` away from 0 and 1."""
    return jnp.clip(mask, MASK_MARGIN, 1.0 - MASK_MARGIN)


def _corner(coordinate: Float[Array, "*s"], count: int) -> Corner:
    position = coordinate * (count - 1)
    # The clip also sends NaN to a valid index; the fraction stays NaN, so that a
    # broken proposal gives a NaN mask instead of a read outside the table.
    index = jnp.clip(position.astype(jnp.int32), 0, count - 2)
    return Corner(index, position - index)


def _interpolate(table: np.ndarray | Array, row: Corner, column: Corner) -> Array:
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
        return coordinate(jax.random.uniform(key, shape))
    if len(shape) < 2:
        raise ValueError(f"proposal has shape {shape}, expected [..., H, W]")
    height, width = shape[-2:]
    counts = (num_patches(height, patch[0]), num_patches(width, patch[1]))
    shared = coordinate(jax.random.uniform(key, (*shape[:-2], *counts)))
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
    return _corner(coordinate(proposal), NUM_ROWS), _corner(uniform, NUM_COLUMNS)


def draw_by_table(
    key: PRNGKeyArray,
    proposal: Float[Array, "*s"],
    kappa: Kappa = 9.0,
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
    mask = _interpolate(quantiles_of(kappa), *corners)
    return jax.lax.stop_gradient(clamp_mask(mask))


def draw_with_path(
    key: PRNGKeyArray,
    proposal: Float[Array, "*s"],
    kappa: Kappa = 9.0,
    noise_patch: tuple[int, int] = (1, 1),
) -> Float[Array, "*s"]:
    """Draw what ``draw_by_table`` draws, differentiable in the proposal.

    The derivative is that of F^-1(u; P) at fixed u, from its table of slopes, and 0
    where a draw was clamped. Gradients of a reward through it are pathwise: exact
    in expectation for the masks as they are drawn, shared noise included.

    Args:
      key: random key.
      proposal: P in [0, 1]; its last two axes are the grid if noise is shared.
      kappa: concentration.
      noise_patch: (frequency rows, time columns) that share a uniform.
    """
    corners = _corners(key, proposal, noise_patch, mirrored=False)
    drawn = _interpolate(quantiles_of(kappa), *corners)
    slope = _interpolate(slopes_of(kappa), *corners)
    mask = clamp_mask(drawn)
    slope = jax.lax.stop_gradient(jnp.where(mask == drawn, slope, 0.0))
    proposal = proposal.astype(jnp.float32)
    move = proposal - jax.lax.stop_gradient(proposal)  # 0, with a slope of 1
    return jax.lax.stop_gradient(mask) + slope * move


def draw_by_rejection(
    key: PRNGKeyArray, proposal: Float[Array, "*s"], kappa: Kappa = 9.0
) -> Float[Array, "*s"]:
    """Draw independent masks with ``jax.random.beta``: the reference, slow.

    Args and result are those of ``draw_by_table``.
    """
    proposal = jax.lax.stop_gradient(proposal).astype(jnp.float32)
    number = number_of(kappa)
    alpha, beta = 1.0 + number * proposal, 1.0 + number * (1.0 - proposal)
    mask = jax.random.beta(key, alpha, beta)
    return jax.lax.stop_gradient(clamp_mask(mask))
