"""Projections by conjugate gradients on the spectra: for accelerators.

Preconditioned by the inverse of the Toeplitz normal equations under a tiny ridge: the
ridge leaves no trace, and float32 stays honest on nearly singular targets.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import scipy.fft
from jaxtyping import Array, Complex, Float, Int

from marssep_jax.metrics import toeplitz
from marssep_jax.metrics.split import Split, by_groups, normalised, safe_ratio


class _Patience(NamedTuple):
    """When a projection is good enough; energies are shares of the signal's.

    ``gain``: largest energy that a step may still win. ``share``: the same as a share
    of what is left, which SAR is made of, above ``floor``, which is rounding.
    """

    gain: float
    share: float
    floor: float
    num_steps: int


QUIET_STEPS = 3
"""Steps in a row that must win next to nothing: nearly equal targets have plateaus."""

SINGLE = _Patience(1e-8, 1e-3, 1e-13, 32)
"""Good to 0.001 dB after 4 or 5 steps on ordinary signals, to 0.002 dB after 32 where
a target or a band lies 80 dB below the rest. On pure tones, or targets that differ by
less than 1e-5, float32 has not the digits, and values may be off by some tenths."""

DOUBLE = _Patience(1e-12, 1e-7, 1e-28, 64)
"""Good to 1e-6 dB, nearly equal targets (1e-6 apart) included."""


def _inner(
    first: Complex[Array, "*b m"], second: Complex[Array, "*b m"], size: int
) -> Float[Array, "*b"]:
    """Return the inner product of real signals from their half spectra (Parseval)."""
    power = first.real * second.real + first.imag * second.imag
    twice = 2 * jnp.sum(power, axis=-1) - power[..., 0]
    return (twice - power[..., -1] if size % 2 == 0 else twice) / size


def _energy(spectrum: Complex[Array, "*b m"], size: int) -> Float[Array, "*b"]:
    """Return a real signal's energy from its half spectrum (Parseval)."""
    return _inner(spectrum, spectrum, size)


ROUNDING_EPS = 64.0
"""Share of a direction, in machine epsilons, that is not told from rounding."""


class _Descent(NamedTuple):
    """State of a projection: what is left, the last change and its energy."""

    residual: Complex[Array, "e m"]
    change: Complex[Array, "e m"]
    norm: Float[Array, " e"]
    quiet: Int[Array, ""]
    num_steps: Int[Array, ""]


def _project(
    spectrum: Complex[Array, "s m"],
    signal: Complex[Array, "e m"],
    size: int,
    num_taps: int,
) -> Complex[Array, "e m"]:
    """Project signals onto all delays of all references, spectra in and out.

    Conjugate gradients on the least-squares problem itself (CGLS), preconditioned,
    from filters of zero, until nothing more is won.
    """

    def correlate(residual: Array) -> Array:
        cross = jnp.conj(spectrum)[None] * residual[:, None]
        return jnp.fft.irfft(cross, size)[..., :num_taps]

    inverse = toeplitz.invert(
        jnp.fft.irfft(jnp.conj(spectrum)[:, None] * spectrum[None], size)[
            ..., :num_taps
        ]
    )

    rounding = (ROUNDING_EPS * jnp.finfo(spectrum.dtype).eps) ** 2
    patience = DOUBLE if jnp.finfo(signal.dtype).bits == 64 else SINGLE

    def step(carry: _Descent) -> _Descent:
        descent = toeplitz.solve(inverse, correlate(carry.residual))
        change = jnp.sum(spectrum[None] * jnp.fft.rfft(descent, size), axis=1)
        # Both by what they are, not by what exact arithmetic would make of them: the
        # residual then never grows, whatever the inverse is worth.
        again = safe_ratio(_inner(change, carry.change, size), carry.norm)
        before = _energy(change, size)
        change = change - again[:, None] * carry.change
        norm = _energy(change, size)
        # What is left of the same direction is rounding, and leads anywhere.
        norm = jnp.where(norm > rounding * before, norm, 0)
        length = safe_ratio(_inner(carry.residual, change, size), norm)
        residual = carry.residual - length[:, None] * change
        gain, left = length**2 * norm, _energy(residual, size)
        won = (gain > patience.gain) | (gain > patience.share * left + patience.floor)
        quiet = jnp.where(jnp.any(won), 0, carry.quiet + 1)
        return _Descent(residual, change, norm, quiet, carry.num_steps + 1)

    def restless(carry: _Descent) -> Array:
        return (carry.quiet < QUIET_STEPS) & (carry.num_steps < patience.num_steps)

    none = jnp.zeros_like(signal)
    none_yet = jnp.zeros((), jnp.int32)
    start = _Descent(signal, none, none[:, 0].real, none_yet, none_yet)
    return signal - jax.lax.while_loop(restless, step, start).residual


def _split_one(
    estimate: Float[Array, "s t"], target: Float[Array, "s t"], num_taps: int
) -> Split:
    # Long enough that the filtered targets do not wrap around.
    size = scipy.fft.next_fast_len(target.shape[-1] + num_taps - 1, real=True)
    reference = jnp.fft.rfft(normalised(target), size)
    signal = jnp.fft.rfft(normalised(estimate), size)
    own = jax.vmap(lambda one, its: _project(one[None], its[None], size, num_taps)[0])(
        reference, signal
    )
    every = own
    if target.shape[0] > 1:
        every = _project(reference, signal, size, num_taps)
    energy = partial(_energy, size=size)
    parts = (own, signal - own, every - own, every, signal - every)
    return Split(*map(energy, parts))


def split(
    estimates: Float[Array, "p s t"], targets: Float[Array, "p s t"], num_taps: int
) -> Split:
    """Split the estimates of mixtures, in the precision of what is given.

    Args:
      estimates: waveforms, source by source.
      targets: the true sources.
      num_taps: delays of each target.
    """
    return by_groups(
        lambda pair: _split_one(pair[0], pair[1], num_taps), (estimates, targets)
    )
