"""Swin transformer: attention in windows that every second block shifts."""

import functools

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from marssep_jax.transformer import PreNormBlock

EPS = 1e-5
# Added between tokens that only the roll made neighbours.
APART = -100.0


def to_windows(
    grid: Float[Array, "*b h w c"], size: int
) -> Float[Array, "*b windows tokens c"]:
    """Cut a grid into size x size windows, row by row."""
    *lead, h, w, c = grid.shape
    value = grid.reshape(*lead, h // size, size, w // size, size, c)
    return jnp.swapaxes(value, -4, -3).reshape(*lead, -1, size * size, c)


def from_windows(
    windows: Float[Array, "*b windows tokens c"], shape: tuple[int, ...]
) -> Float[Array, "*b h w c"]:
    """Lay windows out as a grid of ``shape`` (h, w): the inverse of `to_windows`."""
    *lead, _, tokens, c = windows.shape
    (h, w), size = shape, round(tokens**0.5)
    value = windows.reshape(*lead, h // size, w // size, size, size, c)
    return jnp.swapaxes(value, -4, -3).reshape(*lead, h, w, c)


@functools.cache
def relative_index(size: int) -> Int[np.ndarray, "q k"]:
    """Return the bias table's row for query and key of a size x size window.

    (dh + size - 1) (2 size - 1) + (dw + size - 1), where d is query minus key.
    """
    place = np.stack(np.divmod(np.arange(size * size), size))
    offset = place[:, :, None] - place[:, None, :] + size - 1
    return offset[0] * (2 * size - 1) + offset[1]


@functools.cache
def apart(
    shape: tuple[int, ...], size: int, shift: int
) -> Bool[np.ndarray, "windows q k"]:
    """Mark the pairs in a rolled grid's windows that were not neighbours before."""
    region = np.zeros(shape, int)
    for axis, length in enumerate(shape):
        place = np.arange(length)
        zone = (place >= length - size).astype(int) + (place >= length - shift)
        region = 3 * region + (zone[:, None] if axis == 0 else zone[None, :])
    cells = region.reshape(shape[0] // size, size, shape[1] // size, size)
    rows = cells.swapaxes(1, 2).reshape(-1, size * size)
    return rows[:, :, None] != rows[:, None, :]


class SwinBlock(nn.Module):
    """A pre-norm block inside each window, with a bias by relative position.

    Attributes:
      num_heads: heads.
      window_size: side of a window.
      shift: how far the grid is rolled up and left before it is cut.
      mlp_ratio: hidden width over width.
    """

    num_heads: int
    window_size: int
    shift: int
    mlp_ratio: int

    @nn.compact
    def __call__(self, grid: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Apply the block to a grid of tokens that whole windows cover."""
        size, shape = self.window_size, grid.shape[1:3]
        table = self.param(
            "relative_bias",
            nn.initializers.normal(0.02),
            ((2 * size - 1) ** 2, self.num_heads),
        )
        bias = jnp.moveaxis(table[relative_index(size)], -1, 0)
        if self.shift:
            grid = jnp.roll(grid, (-self.shift, -self.shift), (1, 2))
            mask = jnp.where(apart(shape, size, self.shift), APART, 0.0)
            bias = bias[None] + mask[:, None].astype(bias.dtype)
        hidden = self.mlp_ratio * grid.shape[-1]
        block = PreNormBlock(self.num_heads, hidden, EPS, name="block")
        grid = from_windows(block(to_windows(grid, size), bias), shape)
        return jnp.roll(grid, (self.shift, self.shift), (1, 2)) if self.shift else grid


class PatchMerging(nn.Module):
    """Four neighbours to one token of twice the width."""

    @nn.compact
    def __call__(self, grid: Float[Array, "b h w c"]) -> Float[Array, "b i j e"]:
        """Concatenate in the order (0, 0), (1, 0), (0, 1), (1, 1); norm; project."""
        b, h, w, c = grid.shape
        cells = grid.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 4, 2, 5)
        cells = nn.LayerNorm(EPS, name="norm")(cells.reshape(b, h // 2, w // 2, 4 * c))
        return nn.Dense(2 * c, use_bias=False, name="reduction")(cells)
