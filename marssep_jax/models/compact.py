"""A small U-Net that trains in minutes on two cores (ours).

The grid is folded into channels before the first convolution and unfolded after
the last (pixel shuffle), so nothing is computed at full resolution, where
convolution gradients are slowest on a CPU. The query's gate is linear in the
channels and therefore commutes with the unfolding: the separator applies it
first, on a quarter of the columns.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

# Bins more than this below the clip's own level carry no mask information.
RELATIVE_FLOOR = 0.01
FOLD = 2


def fold(value: Float[Array, "b h w c"], size: int = FOLD) -> Float[Array, "b i j e"]:
    """Fold size x size neighbours into channels; inverse of ``unfold``."""
    b, h, w, c = value.shape
    value = value.reshape(b, h // size, size, w // size, size, c)
    return value.transpose(0, 1, 3, 2, 4, 5).reshape(
        b, h // size, w // size, size * size * c
    )


def unfold(value: Float[Array, "*k i j e"], size: int = FOLD) -> Float[Array, "*k h w"]:
    """Spread size * size channels over the grid (pixel shuffle)."""
    *lead, i, j, _ = value.shape
    value = value.reshape(*lead, i, j, size, size)
    value = jnp.swapaxes(value, -3, -2)
    return value.reshape(*lead, i * size, j * size)


def relative_level(
    log_mag: Float[Array, "*b h w"], floor: float = RELATIVE_FLOOR
) -> Float[Array, "*b h w"]:
    """Return log(|X| / rms + floor): level-free and bounded from below."""
    twice = 2.0 * log_mag
    count = log_mag.shape[-1] * log_mag.shape[-2]
    level = 0.5 * (
        jax.nn.logsumexp(twice, axis=(-2, -1), keepdims=True) - jnp.log(count)
    )
    return jnp.logaddexp(log_mag - level, jnp.log(floor))


class ConvBlock(nn.Module):
    """3x3 convolution, group norm, SiLU."""

    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, value: Float[Array, "b h w c"]) -> Float[Array, "b i j e"]:
        """Apply the block."""
        value = nn.Conv(self.width, (3, 3), (self.stride, self.stride), use_bias=False)(
            value
        )
        value = nn.GroupNorm(num_groups=None, group_size=8)(value)
        return nn.silu(value)


class CompactUNet(nn.Module):
    """Residual U-Net on the folded grid.

    Attributes:
      widths: channels at each level, the first at half the grid's resolution.
      num_outputs: gated channels; the network returns FOLD^2 times as many.
    """

    widths: tuple[int, ...]
    num_outputs: int

    @nn.compact
    def __call__(
        self, log_mag: Float[Array, "b h w"], train: bool
    ) -> Float[Array, "b i j e"]:
        """Run the network; h and w must be multiples of 2^levels."""
        del train  # group norm has no running statistics
        value = relative_level(log_mag) / 2.0
        value = fold(value[..., None])
        # Timbre lives at absolute frequencies: tell every row where it is.
        rows = self.param(
            "row_bias",
            nn.initializers.normal(0.1),
            (value.shape[1], 1, self.widths[0]),
        )
        value = nn.Conv(self.widths[0], (3, 3), use_bias=False)(value)
        value = nn.silu(value + rows[None])
        skips: list[Array] = []
        for width in self.widths[1:]:
            skips.append(value)
            value = ConvBlock(width, stride=2)(value)
            value = value + ConvBlock(width)(value)
        for width in reversed(self.widths[:-1]):
            value = nn.Conv(4 * width, (1, 1))(value)
            value = _shuffle_channels(value, width)
            value = ConvBlock(width)(jnp.concatenate([skips.pop(), value], axis=-1))
        return nn.Conv(FOLD * FOLD * self.num_outputs, (1, 1))(value)


def _shuffle_channels(
    value: Float[Array, "b i j e"], width: int
) -> Float[Array, "b h w c"]:
    b, i, j, _ = value.shape
    value = value.reshape(b, i, j, 2, 2, width)
    return value.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * i, 2 * j, width)
