"""A 4x4 convolution of stride 2 whose gradients know no stride.

Where the grid is small and the kernel large, as in a U-Net's depth, compilers for CPUs
transpose the kernel's gradient and convolve with holes to get the input's. As products
of one tap each, neither is needed. Folding the grid as `marssep_jax.layers` does would
transpose this kernel both ways: a step of the published size then takes a tenth longer.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

SIZE, STRIDE = 4, 2


def _convolve(value: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        value,
        kernel,
        (STRIDE, STRIDE),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@jax.custom_vjp
def convolve_halving(
    value: Float[Array, "b h w i"], kernel: Float[Array, "4 4 i o"]
) -> Float[Array, "b h2 w2 o"]:
    """Convolve with stride 2, padded by one zero at every edge; h and w are even."""
    return _convolve(value, kernel)


def _forward(value: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(value, kernel), (value, kernel)


def _backward(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    value, kernel = kept
    if kernel.size > value.size:
        return gradients_by_products(value, kernel, slope)
    _, pull = jax.vjp(_convolve, value, kernel)
    return pull(slope)


def gradients_by_products(
    value: Float[Array, "b h w i"],
    kernel: Float[Array, "4 4 i o"],
    slope: Float[Array, "b h2 w2 o"],
) -> tuple[Array, Array]:
    """Return the gradients by value and kernel: two products for each tap.

    Tap 2 a + c reads, of the padded grid, row c of the pair a behind the output's own;
    columns alike.
    """
    b, h, w, inputs = value.shape
    rows, columns = h // 2, w // 2
    padded = jnp.pad(value, ((0, 0), (1, 1), (1, 1), (0, 0)))
    pairs = padded.reshape(b, rows + 1, 2, columns + 1, 2, inputs)
    flat = slope.reshape(b * rows * columns, -1)
    by_kernel = []
    by_pairs = [[jnp.zeros((), value.dtype)] * 2 for _ in range(2)]
    for tap in range(SIZE * SIZE):
        (a, c), (e, d) = (divmod(place, 2) for place in divmod(tap, SIZE))
        read = pairs[:, a : a + rows, c, e : e + columns, d].reshape(-1, inputs)
        by_kernel.append(read.T @ flat)
        part = (flat @ kernel[2 * a + c, 2 * e + d].T).reshape(b, rows, columns, inputs)
        spread = jnp.pad(part, ((0, 0), (a, 1 - a), (e, 1 - e), (0, 0)))
        by_pairs[c][d] = by_pairs[c][d] + spread
    grid = jnp.stack([jnp.stack(row, axis=3) for row in by_pairs], axis=2)
    by_value = grid.reshape(padded.shape)[:, 1:-1, 1:-1]
    return by_value, jnp.stack(by_kernel).reshape(kernel.shape)


convolve_halving.defvjp(_forward, _backward)


class HalvingConv(nn.Module):
    """The layer of `convolve_halving`, without a bias.

    Attributes:
      width: outputs.
      kernel_init: of the kernel [4, 4, inputs, outputs].
      dtype: of the computation.
    """

    width: int
    kernel_init: nn.initializers.Initializer
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, value: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        """Return outputs on half the grid."""
        shape = (SIZE, SIZE, value.shape[-1], self.width)
        kernel = self.param("kernel", self.kernel_init, shape)
        return convolve_halving(value.astype(self.dtype), kernel.astype(self.dtype))
