"""Projections by the normal equations in double precision: for processors.

All that a projection needs are correlations of 512 lags: |P e|^2 = c G^-1 c, with G of
the targets among themselves and c of the estimate with them. In double precision that
is within 0.002 dB of an orthogonal projection for targets down to 1e-6 apart, which is
nearly all that float32 can tell apart. On pure tones, of which a few samples determine
all others, no way agrees with another.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from marssep_jax.metrics import toeplitz
from marssep_jax.metrics.split import Split, by_groups, safe_ratio

REST = 1e-10
"""A system is solved when no more than this share of its right-hand side is left."""

MAX_STEPS = 32

FRAME_LAGS = 8
"""Length of a frame's transform, in numbers of lags."""


class _Correlations(NamedTuple):
    """Sums of products at lags l, by the root of the signals' energies.

    Attributes:
      gram: G [i, j, l], the sum over t of s_i(t) s_j(t + l).
      right: c [e, i, l], the sum over t of s_i(t) e(t + l).
      whole: energy of the estimates, 1 or 0.
    """

    gram: Float[Array, "s s l"]
    right: Float[Array, "s s l"]
    whole: Float[Array, " s"]


class _Solution(NamedTuple):
    """State of a solution h: the rest c - G h, the last change d, G d and d G d."""

    found: Float[Array, "e s l"]
    rest: Float[Array, "e s l"]
    change: Float[Array, "e s l"]
    image: Float[Array, "e s l"]
    curvature: Float[Array, "e 1 1"]
    num_steps: Int[Array, ""]


def _frames(
    waveforms: Float[Array, "n t"], num_taps: int
) -> tuple[Float[Array, "n k h"], Float[Array, "n k f"]]:
    """Cut into frames, and into the same ones with the samples of all lags behind."""
    hop = (FRAME_LAGS - 1) * num_taps
    num = -(-waveforms.shape[-1] // hop)
    padded = jnp.pad(waveforms, [(0, 0), (0, num * hop - waveforms.shape[-1])])
    frames = padded.reshape(-1, num, hop)
    behind = jnp.pad(frames[:, 1:, :num_taps], [(0, 0), (0, 1), (0, 0)])
    return frames, jnp.concatenate([frames, behind], axis=-1)


def _correlations(
    estimate: Float[Array, "s t"], target: Float[Array, "s t"], num_taps: int
) -> _Correlations:
    """Correlate by frames: short transforms stay in the cache, and few lags count."""
    num, size = target.shape[0], FRAME_LAGS * num_taps
    waveforms = jnp.concatenate([target, estimate]).astype(jnp.float64)
    frames, ahead = _frames(waveforms, num_taps)
    heard = jnp.fft.rfft(frames[:num], size)
    later = jnp.fft.rfft(ahead, size)
    # One sum for each pair: XLA fuses it, an einsum of so few signals is slow.
    cross = jnp.stack(
        [jnp.sum(jnp.conj(one) * two, axis=0) for one in heard for two in later]
    )
    lags = jnp.fft.irfft(cross, size)[:, :num_taps].reshape(num, 2 * num, num_taps)
    energy = jnp.sum(waveforms**2, axis=-1)
    # In units of the signals' own energy one relative ridge fits all.
    unit = jnp.where(energy > 0, 1 / jnp.sqrt(jnp.where(energy > 0, energy, 1)), 0)
    lags = lags * (unit[:num, None] * unit[None])[..., None]
    return _Correlations(
        lags[:, :num], jnp.swapaxes(lags[:, num:], 0, 1), (unit * unit * energy)[num:]
    )


def _energy(
    gram: Float[Array, "s s l"], right: Float[Array, "e s l"]
) -> Float[Array, " e"]:
    """Return c G^-1 c of each right-hand side.

    The inverse is that under a ridge. Where it leaves more than rounding, as on nearly
    equal targets, it preconditions conjugate gradients.
    """
    inverse = toeplitz.invert(gram)

    def dot(first: Array, second: Array) -> Array:
        return jnp.sum(first * second, axis=(-2, -1), keepdims=True)

    def restless(carry: _Solution) -> Array:
        left = jnp.max(dot(carry.rest, carry.rest) - REST**2 * dot(right, right))
        return (left > 0) & (carry.num_steps < MAX_STEPS)

    def step(carry: _Solution) -> _Solution:
        descent = toeplitz.solve(inverse, carry.rest)
        again = safe_ratio(dot(descent, carry.image), carry.curvature)
        change = descent - again * carry.change
        image = toeplitz.multiply(gram, change)
        curvature = dot(change, image)
        length = safe_ratio(dot(carry.rest, change), curvature)
        return _Solution(
            carry.found + length * change,
            carry.rest - length * image,
            change,
            image,
            curvature,
            carry.num_steps + 1,
        )

    found = toeplitz.solve(inverse, right)
    image = toeplitz.multiply(gram, found)
    first = _Solution(
        found, right - image, found, image, dot(found, image), jnp.zeros((), jnp.int32)
    )
    solution = jax.lax.while_loop(restless, step, first)
    # c h + r h: what is wrong with h counts by its square, and never for too much.
    return jnp.sum(solution.found * (right + solution.rest), axis=(-2, -1))


def _split_one(given: _Correlations) -> Split:
    gram, right, whole = given
    itself = jnp.arange(gram.shape[0])
    own = jax.vmap(lambda g, c: _energy(g[None, None], c[None, None])[0])(
        gram[itself, itself], right[itself, itself]
    )
    every = _energy(gram, right) if gram.shape[0] > 1 else own
    rests = (whole - own, every - own, whole - every)
    not_own, others, not_every = (jnp.maximum(rest, 0) for rest in rests)
    return Split(own, not_own, others, every, not_every)


def split(
    estimates: Float[Array, "p s t"], targets: Float[Array, "p s t"], num_taps: int
) -> Split:
    """Split the estimates of mixtures; float64 comes out.

    Args:
      estimates: waveforms, source by source.
      targets: the true sources.
      num_taps: delays of each target.
    """
    # One mixture's spectra fill the cache; its equations are a tenth of that.
    correlations = jax.lax.map(
        lambda pair: _correlations(pair[0], pair[1], num_taps), (estimates, targets)
    )
    return by_groups(_split_one, correlations)
