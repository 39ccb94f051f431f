"""A small U-Net that trains in minutes on two cores (ours).

The grid is folded into channels before the first convolution and unfolded after
the last (pixel shuffle), so nothing is computed at full resolution, where
convolution gradients are slowest on a CPU. The query's gate is linear in the last
layer's channels: it commutes with the unfolding and with the layer itself, so it
is multiplied into the layer's weights, and the channels never come to be.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from marssep_jax.layers import ConvBlock, fold, relative_level, unfold

# Bins more than this below the clip's own level carry no mask information.
RELATIVE_FLOOR = 0.01
FOLD = 2


class CompactUNet(nn.Module):
    """Residual U-Net on the folded grid.

    Attributes:
      widths: channels at each level, the first at half the grid's resolution.
      dtype: of the computation.
    """

    widths: tuple[int, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, log_mag: Float[Array, "b h w"]) -> Float[Array, "b i j e"]:
        """Run the network; h and w must be multiples of 2^levels."""
        value = relative_level(log_mag, RELATIVE_FLOOR) / 2.0
        value = fold(value[..., None], FOLD)
        # Timbre lives at absolute frequencies: tell every row where it is.
        rows = self.param(
            "row_bias",
            nn.initializers.normal(0.1),
            (value.shape[1], 1, self.widths[0]),
        )
        first = nn.Conv(self.widths[0], (3, 3), use_bias=False, dtype=self.dtype)
        value = nn.silu(first(value) + rows[None].astype(self.dtype))
        skips: list[Array] = []
        for width in self.widths[1:]:
            skips.append(value)
            value = ConvBlock(width, 2, self.dtype)(value)
            value = value + ConvBlock(width, dtype=self.dtype)(value)
        for width in reversed(self.widths[:-1]):
            value = nn.Dense(4 * width, dtype=self.dtype)(value)
            value = unfold(value.reshape(*value.shape[:3], 4, width))
            value = jnp.concatenate([skips.pop(), value], axis=-1)
            value = ConvBlock(width, dtype=self.dtype)(value)
        return value


class GatedHead(nn.Module):
    """One 1x1 layer to gated channels, the gate, the sum and the unfolding.

    z = sum_c g_c (W h + b)_c is computed as (sum_c g_c W_c) h + sum_c g_c b_c. The
    sums are float32, whatever h is.
    """

    num_channels: int

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "b i j e"], gate: Float[Array, "b k c"]
    ) -> Float[Array, "b k h w"]:
        """Return mask logits."""
        width, spread = hidden.shape[-1], FOLD * FOLD
        kernel = self.param(
            "kernel",
            nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2)),
            (width, spread, self.num_channels),
        )
        bias = self.param("bias", nn.initializers.zeros, (spread, self.num_channels))
        weight = jnp.einsum("bkc,esc->bkse", gate, kernel)
        offset = jnp.einsum("bkc,sc->bks", gate, bias)
        value = jnp.einsum(
            "bije,bkse->bkijs",
            hidden,
            weight.astype(hidden.dtype),
            preferred_element_type=jnp.float32,
        )
        return unfold((value + offset[:, :, None, None])[..., None])[..., 0]
