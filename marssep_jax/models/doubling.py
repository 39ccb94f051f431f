"""A 3x3 convolution of a doubled grid, taken before the doubling.

The grid is doubled by linear interpolation D with aligned corners. D is linear and the
same for every channel, so that it commutes with what mixes channels. With S_rs the
shift by a tap's place and W_rs the tap's weights,

    conv(D x) = sum_rs S_rs D(x) W_rs = sum_rs S_rs D(x W_rs).

The products on the right are of the small grid: a quarter of the multiplications, one
way and back, and the doubled input never comes to be. What is left is to add weighted
neighbours, first along the rows and then along the columns.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

TAPS = 3
SHIFTS = (-1, 0, 1)


def doubling_matrix(size: int) -> np.ndarray:
    """Return [2 size, size] of linear interpolation with aligned corners.

    Output i reads input i (size - 1) / (2 size - 1).
    """
    position = np.arange(2 * size) * (size - 1) / (2 * size - 1)
    low = np.minimum(position.astype(int), max(size - 2, 0))
    weight = position - low
    matrix = np.zeros((2 * size, size), np.float32)
    rows = np.arange(2 * size)
    matrix[rows, low] += 1.0 - weight
    matrix[rows, np.minimum(low + 1, size - 1)] += weight
    return matrix


@functools.cache
def _weights(size: int) -> np.ndarray:
    """Return what output 2 j + p has of tap t's input j + s: ``[p, t, s + 1, j]``.

    Outside the doubled grid there are zeros: of them the outer taps have nothing.
    """
    matrix = np.pad(doubling_matrix(size), ((1, 1), (1, 1)))
    j = np.arange(size)
    return np.stack(
        [
            [
                [matrix[2 * j + p + tap, j + s + 1] for s in SHIFTS]
                for tap in range(TAPS)
            ]
            for p in range(2)
        ]
    )


def _shifted(value: Array, shift: int, axis: int) -> Array:
    """Return what lies ``shift`` further along an axis, and zeros beyond its end."""
    if shift == 0:
        return value
    size = value.shape[axis]
    kept = jax.lax.slice_in_dim(value, max(shift, 0), size + min(shift, 0), axis=axis)
    padding = [(0, 0)] * value.ndim
    padding[axis] = (max(-shift, 0), max(shift, 0))
    return jnp.pad(kept, padding)


def _sum(terms: list[tuple[np.ndarray, Array, int]], axis: int) -> Array:
    """Add what lies ``shift`` further, times its weight along the axis."""
    total = None
    for weight, value, shift in terms:
        if not weight.any():
            continue
        shape = [1] * value.ndim
        shape[axis] = -1
        factor = jnp.asarray(weight.reshape(shape), value.dtype)
        term = factor * _shifted(value, shift, axis)
        total = term if total is None else total + term
    return jnp.zeros_like(terms[0][1]) if total is None else total


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def double_taps(taps: tuple[Array, Array, Array], axis: int) -> Array:
    """Double an axis of every tap's product, and add what lies at the taps.

    Args:
      taps: three products, of the tap before, at and behind an output.
      axis: of all of them; it comes out twice as long.
    """
    size = taps[0].shape[axis]
    weights = _weights(size)
    phases = [
        _sum(
            [
                (weights[phase, tap, shift + 1], taps[tap], shift)
                for tap in range(TAPS)
                for shift in SHIFTS
            ],
            axis,
        )
        for phase in range(2)
    ]
    shape = list(taps[0].shape)
    shape[axis] = 2 * size
    return jnp.stack(phases, axis + 1).reshape(shape)


def _double_taps(taps: tuple[Array, Array, Array], axis: int) -> tuple[Array, None]:
    return double_taps(taps, axis), None


def _halve_taps(axis: int, _: None, slope: Array) -> tuple[tuple[Array, Array, Array]]:
    """Return the slopes of the taps; shifts again, where XLA would scatter."""
    shape = slope.shape
    size = shape[axis] // 2
    paired = slope.reshape(*shape[:axis], size, 2, *shape[axis + 1 :])
    phases = [
        jax.lax.index_in_dim(paired, phase, axis + 1, keepdims=False)
        for phase in range(2)
    ]
    weights = _weights(size)
    at = np.arange(size)

    def slope_of(tap: int) -> Array:
        terms = []
        for phase in range(2):
            for shift in SHIFTS:  # output pair j + shift reads input j
                row = weights[phase, tap, 1 - shift]
                inside = (at + shift >= 0) & (at + shift < size)
                weight = np.where(inside, row[np.clip(at + shift, 0, size - 1)], 0.0)
                terms.append((weight.astype(np.float32), phases[phase], shift))
        return _sum(terms, axis)

    return ((slope_of(0), slope_of(1), slope_of(2)),)


double_taps.defvjp(_double_taps, _halve_taps)


def convolve_doubled(
    value: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]
) -> Float[Array, "b h2 w2 o"]:
    """Convolve the doubled grid, padded by zeros, with a kernel.

    Args:
      value: on the small grid.
      kernel: of the large one.
    """
    b, h, w, inputs = value.shape
    flat = value.reshape(-1, inputs)

    def products(row: Float[Array, "3 i o"]) -> Float[Array, "b h w 3 o"]:
        """Return the products of a row of taps, one beside the other."""
        mixed = row.transpose(1, 0, 2).reshape(inputs, -1)
        return (flat @ mixed).reshape(b, h, w, TAPS, -1)

    before, at, behind = (products(row) for row in kernel)
    rows = double_taps((before, at, behind), 1)
    return double_taps((rows[:, :, :, 0], rows[:, :, :, 1], rows[:, :, :, 2]), 2)


def convolve_doubled_gated(
    value: Float[Array, "b h w i"],
    kernel: Float[Array, "3 3 i o"],
    gate: Float[Array, "b k o"],
) -> Float[Array, "b k h2 w2"]:
    """Convolve the doubled grid and take each gate's sum of the outputs, in float32.

    The gate is multiplied into the kernel, so that the outputs never come to be.
    """
    weight = jnp.einsum("rsio,bko->brski", kernel, gate)
    taps = jnp.einsum(
        "bhwi,brski->brskhw",
        value,
        weight.astype(value.dtype),
        preferred_element_type=jnp.float32,
    )
    rows = double_taps((taps[:, 0], taps[:, 1], taps[:, 2]), 3)
    return double_taps((rows[:, 0], rows[:, 1], rows[:, 2]), 3)


class DoubledConv(nn.Module):
    """The layer of `convolve_doubled`; with a gate, its sums over gated outputs.

    Attributes:
      width: outputs.
      kernel_init: of the kernel [3, 3, inputs, outputs].
      bias_init: of the bias; None has none.
      dtype: of the computation; gated sums are float32 whatever it is.
    """

    width: int
    kernel_init: nn.initializers.Initializer
    bias_init: nn.initializers.Initializer | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, value: Float[Array, "b h w i"], gate: Array | None = None
    ) -> Array:
        """Return outputs ``[b, 2 h, 2 w, o]``, or their sums ``[b, k, 2 h, 2 w]``.

        Args:
          value: on the small grid.
          gate: what each sum takes of each output ``[b, k, o]``.
        """
        shape = (TAPS, TAPS, value.shape[-1], self.width)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        bias = None
        if self.bias_init is not None:
            bias = self.param("bias", self.bias_init, (self.width,))
        value = value.astype(self.dtype)
        if gate is not None and gate.shape[1] <= self.width:
            result = convolve_doubled_gated(value, kernel, gate)
        else:
            result = convolve_doubled(value, kernel)
            if gate is not None:  # fewer outputs than gates
                result = jnp.einsum(
                    "bhwo,bko->bkhw",
                    result,
                    gate.astype(result.dtype),
                    preferred_element_type=jnp.float32,
                )
        if bias is None:
            return result
        if gate is None:
            return result + bias.astype(self.dtype)[None, None, None]
        return result + jnp.einsum("bko,o->bk", gate, bias)[..., None, None]
