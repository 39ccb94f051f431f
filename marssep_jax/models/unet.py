"""OmniSep's U-Net, channels last.

Strided 4x4 convolutions down, aligned-corner doubling and 3x3 convolutions up,
skips concatenated in front of the upward path. The published size has seven
levels, 64 channels at the first and 32 outputs, of which each query's gate takes its
own sum: 30 274 210 parameters.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from marssep_jax.models.doubling import DoubledConv
from marssep_jax.models.halving import HalvingConv

KERNEL_INIT = nn.initializers.normal(0.001)


def uniform_fan_in(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    """Draw a bias uniformly from +-1/sqrt(fan_in), as PyTorch's layers do."""
    bound = 1.0 / np.sqrt(fan_in)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class UNet(nn.Module):
    """Map log magnitudes to sums of ``num_outputs`` channels on the same grid.

    Attributes:
      widths: channels after each downward convolution; one level each.
      num_outputs: channels of the last convolution.
      dtype: of the computation; parameters and norms' statistics are float32.
    """

    widths: tuple[int, ...]
    num_outputs: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, log_mag: Float[Array, "b h w"], gate: Float[Array, "b k c"], train: bool
    ) -> Float[Array, "b k h w"]:
        """Run the network; h and w must be multiples of 2^levels.

        Args:
          log_mag: log magnitudes.
          gate: what each query's sum takes of each channel.
          train: normalise by the batch and update the running statistics.
        """
        value = self._norm("entry_norm", train)(log_mag[..., None])
        skips: list[Array] = []
        last = len(self.widths) - 1
        for level, width in enumerate(self.widths):
            if level > 0:
                skips.append(value)
                value = nn.leaky_relu(value, 0.2)
            name = f"down_{level + 1}"
            value = HalvingConv(width, KERNEL_INIT, self.dtype, name=name)(value)
            if 0 < level < last:
                value = self._norm(f"down_norm_{level + 1}", train)(value)
        for level in range(last, 0, -1):
            up = self._up(f"up_{level + 1}", self.widths[level - 1])
            value = self._norm(f"up_norm_{level + 1}", train)(up(nn.relu(value)))
            value = jnp.concatenate([skips.pop(), value], axis=-1)
        up = self._up("up_1", self.num_outputs, use_bias=True)
        return up(nn.relu(value), gate)

    def _norm(self, name: str, train: bool) -> nn.BatchNorm:
        # Flax keeps the biased variance in its running statistics, PyTorch the
        # unbiased one: a factor 1 + 1/(b h w - 1), at most 1.002 at batch 128.
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
            scale_init=lambda key, shape, dtype=jnp.float32: (
                1.0 + 0.02 * jax.random.normal(key, shape, dtype)
            ),
            name=name,
        )

    def _up(self, name: str, width: int, *, use_bias: bool = False) -> DoubledConv:
        def bias_init(key: Array, shape: tuple[int, ...]) -> Array:
            return uniform_fan_in(key, shape, 3 * 3 * 2 * self.widths[0])

        return DoubledConv(
            width, KERNEL_INIT, bias_init if use_bias else None, self.dtype, name=name
        )
