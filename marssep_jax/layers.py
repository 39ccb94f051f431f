"""Building blocks that the small networks share.

A strided convolution is written as a dense one on the folded grid. That is the
same linear map with a kernel twice as wide, and its gradients are convolutions
without holes: XLA's CPU backend is several times faster at those.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

F = TypeVar("F", bound=Callable)


def jit_once(function: F) -> F:
    """Compile what runs once, an initialiser, without optimising it.

    On a CPU most of an initialiser's time is spent in XLA's optimiser. Elsewhere,
    and inside another compilation, it is compiled as ever.
    """

    def call(*args: object) -> object:
        inside = any(
            isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args)
        )
        plain = inside or jax.default_backend() != "cpu"
        options = None if plain else {"xla_backend_optimization_level": 0}
        return jax.jit(function, compiler_options=options)(*args)

    return cast(F, wraps(function)(call))


def fold(value: Float[Array, "b h w c"], size: int = 2) -> Float[Array, "b i j e"]:
    """Fold size x size neighbours into channels, e = size^2 c."""
    b, h, w, c = value.shape
    value = value.reshape(b, h // size, size, w // size, size, c)
    return value.transpose(0, 1, 3, 2, 4, 5).reshape(
        b, h // size, w // size, size * size * c
    )


def unfold(value: Float[Array, "*k i j e c"]) -> Float[Array, "*k h w c"]:
    """Spread e = size^2 neighbours over the grid (pixel shuffle).

    ``unfold(fold(v, s).reshape(b, i, j, s * s, c))`` is ``v``.
    """
    *lead, i, j, e, c = value.shape
    size = round(e**0.5)
    value = value.reshape(*lead, i, j, size, size, c)
    value = jnp.swapaxes(value, -4, -3)
    return value.reshape(*lead, i * size, j * size, c)


def relative_level(
    log_mag: Float[Array, "*b h w"], floor: float
) -> Float[Array, "*b h w"]:
    """Return log(|X| / rms + floor): free of the clip's level, bounded from below.

    Args:
      log_mag: log magnitudes.
      floor: what is quieter against the clip's level says nothing.
    """
    count = log_mag.shape[-1] * log_mag.shape[-2]
    power = jax.nn.logsumexp(2.0 * log_mag, axis=(-2, -1), keepdims=True)
    level = 0.5 * (power - jnp.log(count))
    return jnp.logaddexp(log_mag - level, jnp.log(floor))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def peak(value: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Return the maximum over an axis, with a gradient that is always finite.

    The gradient of ``jnp.max`` looks for its result among the operand's entries
    and divides by how often it is there. A compiler that computes the operand
    twice may round it twice, and then it is there not at all. Here the gradient
    goes to the entry that ``argmax`` names, the first of equals.
    """
    return jnp.max(value, axis=axis)


@peak.defjvp
def _peak_jvp(
    axis: int, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (value,), (tangent,) = primals, tangents
    index = jnp.argmax(value, axis=axis, keepdims=True)
    chosen = jax.lax.broadcasted_iota(index.dtype, value.shape, axis) == index
    return peak(value, axis), jnp.sum(tangent * chosen, axis=axis)


class ConvBlock(nn.Module):
    """Convolution, group norm, SiLU.

    Attributes:
      width: channels of the result.
      stride: 1 convolves 3x3; s > 1 folds s x s and convolves 2x2, a kernel of
        2s x 2s at stride s.
      dtype: of the computation; parameters and norms' statistics are float32.
    """

    width: int
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, value: Float[Array, "b h w c"]) -> Float[Array, "b i j e"]:
        """Apply the block; h and w must be multiples of the stride."""
        size = 3
        if self.stride > 1:
            value, size = fold(value, self.stride), 2
        conv = nn.Conv(self.width, (size, size), use_bias=False, dtype=self.dtype)
        norm = nn.GroupNorm(num_groups=None, group_size=8, dtype=self.dtype)
        value = norm(conv(value))
        return nn.silu(value)
