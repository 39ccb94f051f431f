"""Inverse of a symmetric block-Toeplitz matrix, without ever forming it.

The matrix has blocks R(p - q), p and q in 0..L-1, with R(-l) = R(l)^T: the Gram
matrix of L delays of S signals. Whittle's recursion finds its first and last block
rows in O(S^3 L^2), and the Gohberg-Semencul formula turns those into products by
FFT. Against a dense Cholesky at S = 2, L = 512 that is ten times faster on one core,
and it calls no threaded BLAS, which on a busy machine stalls for half a second.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

RIDGE_EPS = 16.0
"""First ridge, in machine epsilons of the unit diagonal."""

RIDGE_GROWTH = 4.0
"""Factor from ridge to ridge until the recursion holds."""

PIVOT_EPS = {32: 256.0, 64: 65_536.0}
"""Smallest pivot, in machine epsilons, that the recursion's own rounding leaves
trustworthy, by bits of the float: float32 has none to spare. Exact pivots are never
below the ridge, so a larger ridge ends this."""


NUM_WIDTHS = 4
"""Rows grow to their full width in so many steps: three eighths of the work less."""


class ToeplitzInverse(NamedTuple):
    """T^-1 = F^T W_f F - B^T W_b B, for block-triangular Toeplitz F and B."""

    forward: Complex[Array, "s s m"]
    backward: Complex[Array, "s s m"]
    forward_weight: Float[Array, "s s"]
    backward_weight: Float[Array, "s s"]


class _Recursion(NamedTuple):
    forward: Float[Array, "s s l"]
    backward: Float[Array, "s s l"]
    forward_error: Float[Array, "s s"]
    backward_error: Float[Array, "s s"]
    ridge: Float[Array, ""]
    smallest_pivot: Float[Array, ""]


def _product(first: Array, second: Array) -> Array:
    """Multiply ``[i, j, ...]`` by ``[j, k, ...]``, lag by lag.

    Written out over the few signals: XLA then fuses it along the lags, where an
    einsum of tiny matrices is twenty times slower.
    """
    total = first[:, 0, None] * second[None, 0]
    for j in range(1, second.shape[0]):
        total = total + first[:, j, None] * second[None, j]
    return total


def _small_inverse(matrix: Float[Array, "s s"]) -> tuple[Array, Array]:
    """Invert by Gauss-Jordan, in scalars; return the smallest pivot as well."""
    size = matrix.shape[0]
    zero, one = jnp.zeros_like(matrix[0, 0]), jnp.ones_like(matrix[0, 0])
    rows = [
        [matrix[i, j] for j in range(size)]
        + [one if i == j else zero for j in range(size)]
        for i in range(size)
    ]
    pivots = []
    for i in range(size):
        pivots.append(rows[i][i])
        rows[i] = [value / pivots[i] for value in rows[i]]
        for j in (j for j in range(size) if j != i):
            factor = rows[j][i]
            rows[j] = [a - factor * b for a, b in zip(rows[j], rows[i], strict=True)]
    inverse = jnp.stack([jnp.stack(row[size:]) for row in rows])
    return inverse, jnp.min(jnp.stack(pivots))


def _delayed(blocks: Float[Array, "s s l"]) -> Float[Array, "s s l"]:
    return jnp.concatenate([jnp.zeros_like(blocks[..., :1]), blocks[..., :-1]], axis=-1)


def _widths(num_lags: int) -> list[int]:
    """Return how wide rows are made, step by step: early orders need few lags."""
    return sorted(
        {-(-num_lags * part // NUM_WIDTHS) for part in range(1, NUM_WIDTHS + 1)}
    )


def _widened(blocks: Float[Array, "s s k"], width: int) -> Float[Array, "s s l"]:
    return jnp.pad(blocks, [(0, 0), (0, 0), (0, width - blocks.shape[-1])])


def _recurse(correlation: Float[Array, "s s l"], ridge: Array) -> _Recursion:
    """Grow first and last block rows of the inverse from order 1 to order L.

    Forward coefficients A and backward ones B, in natural order, satisfy
    A T = [P_f, 0, ..] and B T = [.., 0, P_b].
    """
    size, _, num_lags = correlation.shape
    eye = jnp.eye(size, dtype=correlation.dtype)
    error = correlation[..., 0] + ridge * eye
    first = eye[..., None]
    # A window into this reads R(p - k - 1) for p = 0..L-1, zero beyond p = k + 1.
    mirrored = jnp.concatenate(
        [jnp.swapaxes(correlation, 0, 1)[..., ::-1], jnp.zeros_like(correlation)],
        axis=-1,
    )

    def grow(order: Array, carry: _Recursion) -> _Recursion:
        lags = jax.lax.dynamic_slice_in_dim(
            mirrored, num_lags - 2 - order, carry.forward.shape[-1], axis=-1
        )
        misfit = jnp.sum(_product(carry.forward, lags), axis=-1)
        late = _delayed(carry.backward)
        backward_inverse, backward_pivot = _small_inverse(carry.backward_error)
        forward_inverse, forward_pivot = _small_inverse(carry.forward_error)
        gain = _product(misfit, backward_inverse)
        back_gain = _product(misfit.T, forward_inverse)
        pivot = jnp.minimum(forward_pivot, backward_pivot)
        return _Recursion(
            carry.forward - _product(gain[..., None], late),
            late - _product(back_gain[..., None], carry.forward),
            carry.forward_error - _product(gain, misfit.T),
            carry.backward_error - _product(back_gain, misfit),
            ridge,
            jnp.minimum(carry.smallest_pivot, pivot),
        )

    carry = _Recursion(first, first, error, error, ridge, jnp.full_like(ridge, jnp.inf))
    begun = 0
    for width in _widths(num_lags):
        carry = carry._replace(
            forward=_widened(carry.forward, width),
            backward=_widened(carry.backward, width),
        )
        carry = jax.lax.fori_loop(begun, width - 1, grow, carry)
        begun = width - 1
    return carry


def invert(correlation: Float[Array, "s s l"]) -> ToeplitzInverse:
    """Invert the matrix under the smallest ridge that float arithmetic can take.

    Args:
      correlation: R(l) of signals of unit or no energy, l = 0..L-1: entry [i, j] is
        the sum over t of s_i(t) s_j(t + l).

    Returns:
      An operator for `solve`, of NaN where the correlation has any.
    """
    dtype = correlation.dtype
    first = jnp.asarray(RIDGE_EPS * jnp.finfo(dtype).eps, dtype)
    trusted = PIVOT_EPS[jnp.finfo(dtype).bits] * jnp.finfo(dtype).eps

    def failed(carry: _Recursion) -> Array:
        # NaN never holds: the bound ends the search.
        held = carry.smallest_pivot >= trusted
        return ~held & (carry.ridge < 1)

    zeros = jnp.zeros_like(correlation)
    error = zeros[..., 0]
    none = _Recursion(
        zeros, zeros, error, error, first / RIDGE_GROWTH, jnp.full_like(first, -jnp.inf)
    )
    found = jax.lax.while_loop(
        failed, lambda carry: _recurse(correlation, RIDGE_GROWTH * carry.ridge), none
    )
    size = 2 * correlation.shape[-1]
    return ToeplitzInverse(
        jnp.fft.rfft(found.forward, size),
        jnp.fft.rfft(_delayed(found.backward), size),
        _small_inverse(found.forward_error)[0],
        _small_inverse(found.backward_error)[0],
    )


def solve(
    inverse: ToeplitzInverse, right: Float[Array, "e s l"]
) -> Float[Array, "e s l"]:
    """Multiply right-hand sides by the inverse."""
    num_lags = right.shape[-1]
    size = 2 * num_lags
    spectrum = jnp.fft.rfft(right, size)

    def half(blocks: Array, weight: Array) -> Array:
        inner = jnp.einsum("ijm,ejm->eim", jnp.conj(blocks), spectrum)
        inner = jnp.fft.irfft(inner, size)[..., :num_lags]
        inner = jnp.einsum("ij,ejl->eil", weight, inner)
        outer = jnp.einsum("jim,ejm->eim", blocks, jnp.fft.rfft(inner, size))
        return jnp.fft.irfft(outer, size)[..., :num_lags]

    return half(inverse.forward, inverse.forward_weight) - half(
        inverse.backward, inverse.backward_weight
    )


def multiply(
    correlation: Float[Array, "s s l"], vectors: Float[Array, "e s l"]
) -> Float[Array, "e s l"]:
    """Multiply vectors by the matrix itself."""
    num_lags = correlation.shape[-1]
    size = 2 * num_lags
    earlier = jnp.swapaxes(correlation, 0, 1)[..., :0:-1]
    period = jnp.concatenate(
        [correlation, jnp.zeros_like(correlation[..., :1]), earlier], axis=-1
    )
    product = jnp.einsum(
        "ijm,ejm->eim", jnp.fft.rfft(period, size), jnp.fft.rfft(vectors, size)
    )
    return jnp.fft.irfft(product, size)[..., :num_lags]
