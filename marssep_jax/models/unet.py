"""OmniSep's U-Net, channels last.

Strided 4x4 convolutions down, aligned-corner doubling and 3x3 convolutions up,
skips concatenated in front of the upward path. The published size has seven
levels, 64 channels at the first and 32 outputs: 30 274 210 parameters.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

Initializer = Callable[..., Array]


def uniform_fan_in(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    """Draw a bias uniformly from +-1/sqrt(fan_in), as PyTorch's layers do."""
    bound = 1.0 / np.sqrt(fan_in)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


@jax.custom_vjp
def double_aligned(value: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Double both grid axes: output i reads input i (n - 1) / (2 n - 1).

    On a CPU shifts are cheaper than matrices one way, and not on the way back.
    """
    return _double_axis(_double_axis(value, 2), 1)


def _doubled(value: Array) -> tuple[Array, None]:
    return double_aligned(value), None


def _halved(_: None, slope: Array) -> tuple[Array]:
    rows, columns = (
        jnp.asarray(doubling_matrix(size // 2), slope.dtype)
        for size in slope.shape[1:3]
    )
    return (jnp.einsum("ih,bijc,jw->bhwc", rows, slope, columns),)


double_aligned.defvjp(_doubled, _halved)


def doubling_matrix(size: int) -> np.ndarray:
    """Return [2 size, size] of linear interpolation with aligned corners."""
    position = np.arange(2 * size) * (size - 1) / (2 * size - 1)
    low = np.minimum(position.astype(int), max(size - 2, 0))
    weight = position - low
    matrix = np.zeros((2 * size, size), np.float32)
    rows = np.arange(2 * size)
    matrix[rows, low] += 1.0 - weight
    matrix[rows, np.minimum(low + 1, size - 1)] += weight
    return matrix


def _double_axis(value: Array, axis: int) -> Array:
    """Interpolate between neighbours.

    Output 2 j lies j / (2 n - 1) before input j, and output 2 j + 1 lies
    (n - 1 - j) / (2 n - 1) behind it.
    """
    size = value.shape[axis]
    shape = [size if i == axis else 1 for i in range(value.ndim)]
    weight = np.arange(size).reshape(shape) / (2 * size - 1)

    def part(start: int, stop: int) -> Array:
        return jax.lax.slice_in_dim(value, start, stop, axis=axis)

    # At either end the weight of the neighbour that is not there is zero.
    before = jnp.concatenate([part(0, 1), part(0, size - 1)], axis)
    behind = jnp.concatenate([part(1, size), part(size - 1, size)], axis)
    early = jnp.asarray(weight, value.dtype) * (before - value)
    late = jnp.asarray(np.flip(weight), value.dtype) * (behind - value)
    pairs = jnp.stack([value + early, value + late], axis + 1)
    return pairs.reshape(*value.shape[:axis], 2 * size, *value.shape[axis + 1 :])


class UNet(nn.Module):
    """Map log magnitudes to ``num_outputs`` channels on the same grid.

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
        self, log_mag: Float[Array, "b h w"], train: bool
    ) -> Float[Array, "b h w c"]:
        """Run the network; h and w must be multiples of 2^levels."""
        value = self._norm("entry_norm", train)(log_mag[..., None])
        skips: list[Array] = []
        last = len(self.widths) - 1
        for level, width in enumerate(self.widths):
            if level > 0:
                skips.append(value)
                value = nn.leaky_relu(value, 0.2)
            value = self._conv(f"down_{level + 1}", width, 4, 2)(value)
            if 0 < level < last:
                value = self._norm(f"down_norm_{level + 1}", train)(value)
        for level in range(last, 0, -1):
            value = double_aligned(nn.relu(value))
            value = self._conv(f"up_{level + 1}", self.widths[level - 1], 3)(value)
            value = self._norm(f"up_norm_{level + 1}", train)(value)
            value = jnp.concatenate([skips.pop(), value], axis=-1)
        value = double_aligned(nn.relu(value))
        return self._conv("up_1", self.num_outputs, 3, use_bias=True)(value)

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

    def _conv(
        self, name: str, width: int, size: int, stride: int = 1, use_bias: bool = False
    ) -> nn.Conv:
        def bias_init(key: Array, shape: tuple[int, ...], dtype: object) -> Array:
            fan_in = size * size * 2 * self.widths[0]
            return uniform_fan_in(key, shape, fan_in)

        return nn.Conv(
            width,
            (size, size),
            (stride, stride),
            padding=1,
            use_bias=use_bias,
            kernel_init=nn.initializers.normal(0.001),
            bias_init=bias_init,
            dtype=self.dtype,
            name=name,
        )
