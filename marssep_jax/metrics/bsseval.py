"""BSS-eval: how much of an estimate is target, interference and artefact.

Each estimate is split by least-squares projections on 512 delays of the targets:
P_s on those of its own target, P on those of all of them. Toeplitz normal equations
made from FFT correlations are factored by Cholesky under a tiny relative ridge; the
factor then only preconditions conjugate gradients on the signals themselves, which
takes the ridge back out and keeps float32 honest on nearly singular targets.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax.scipy.linalg import cho_solve
from jaxtyping import Array, Complex, Float

DB_LIMIT = 200.0
"""Values are clipped to +-200 dB: what an empty numerator or denominator gives."""

RIDGE_EPS = 4.0
"""First ridge, in machine epsilons of the diagonal; tenfold until Cholesky holds."""

NUM_STEPS = 4
"""Conjugate-gradient steps: after four, float32 is good to 2e-3 dB even where a
target has bands 80 dB below its peak, or two targets differ by -60 dB."""


class BssEval(NamedTuple):
    """Ratios in dB, sources in the order given."""

    sdr: Float[Array, "*b s"]
    sir: Float[Array, "*b s"]
    sar: Float[Array, "*b s"]


class _Projector(NamedTuple):
    """Factors of one Toeplitz system and the spectra of the signals behind it."""

    spectrum: Complex[Array, "s m"]
    factor: Float[Array, "sl sl"]


def _energy(spectrum: Complex[Array, "*b m"], size: int) -> Float[Array, "*b"]:
    """Return a real signal's energy from its half spectrum (Parseval)."""
    power = jnp.abs(spectrum) ** 2
    twice = 2 * jnp.sum(power, axis=-1) - power[..., 0]
    return (twice - power[..., -1] if size % 2 == 0 else twice) / size


def _ratio_db(signal: Array, noise: Array) -> Array:
    """Return 10 log10(signal / noise): x/0 is +limit, 0/x -limit, 0/0 is 0 dB."""
    tiny = jnp.finfo(signal.dtype).tiny
    ratio = jnp.log10(jnp.maximum(signal, tiny)) - jnp.log10(jnp.maximum(noise, tiny))
    return jnp.clip(10 * ratio, -DB_LIMIT, DB_LIMIT)


def _safe_ratio(part: Array, whole: Array) -> Array:
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)


def _normalised(waveform: Float[Array, "s t"]) -> Float[Array, "s t"]:
    """Scale to unit energy, so that one relative ridge fits; silence stays silent."""
    norm = jnp.sqrt(jnp.sum(waveform**2, axis=-1, keepdims=True))
    return waveform / jnp.where(norm > 0, norm, 1)


def _robust_cholesky(gram: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Factor a Gram matrix under the smallest ridge that leaves it definite."""
    eye = jnp.eye(gram.shape[0], dtype=gram.dtype)

    def factor(ridge: Array) -> Array:
        return jnp.linalg.cholesky(gram + ridge * eye, symmetrize_input=False)

    def failed(carry: tuple[Array, Array]) -> Array:
        # NaN in the signals never factors: the bound ends the search.
        return ~jnp.isfinite(carry[1][-1, -1]) & (carry[0] < 1)

    def retry(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        return 10 * carry[0], factor(10 * carry[0])

    first = jnp.asarray(RIDGE_EPS * jnp.finfo(gram.dtype).eps, gram.dtype)
    return jax.lax.while_loop(failed, retry, (first, factor(first)))[1]


def _projector(spectrum: Complex[Array, "s m"], size: int, num_taps: int) -> _Projector:
    """Factor the block-Toeplitz Gram matrix of all delays of all signals."""
    num = spectrum.shape[0]
    cross = jnp.conj(spectrum)[:, None] * spectrum[None]
    correlation = jnp.fft.irfft(cross, size)
    # Entry (p, q) is the correlation at lag p - q; negative lags wrap around.
    lag = np.subtract.outer(np.arange(num_taps), np.arange(num_taps)) % size
    gram = correlation[..., lag].transpose(0, 2, 1, 3)
    gram = gram.reshape(num * num_taps, num * num_taps)
    return _Projector(spectrum, _robust_cholesky(gram))


def _project(
    projector: _Projector, signal: Complex[Array, "e m"], size: int, num_taps: int
) -> Complex[Array, "e m"]:
    """Return the spectrum of each signal's projection.

    Preconditioned conjugate gradients on the least-squares problem itself (CGLS),
    from zero filters.
    """
    spectrum, factor = projector
    num, num_signals = spectrum.shape[0], signal.shape[0]

    def correlate(residual: Array) -> tuple[Array, Array]:
        cross = jnp.conj(spectrum)[None] * residual[:, None]
        gradient = jnp.fft.irfft(cross, size)[..., :num_taps].reshape(num_signals, -1)
        step = cho_solve((factor, True), gradient.T).T
        return step, jnp.sum(gradient * step, axis=-1, keepdims=True)

    def apply(taps: Array) -> Array:
        taps = taps.reshape(num_signals, num, num_taps)
        return jnp.sum(spectrum[None] * jnp.fft.rfft(taps, size), axis=1)

    residual = signal
    direction, slope = correlate(residual)
    for step in range(NUM_STEPS):
        change = apply(direction)
        gain = _safe_ratio(slope, _energy(change, size)[..., None])
        residual = residual - gain * change
        if step + 1 < NUM_STEPS:
            descent, next_slope = correlate(residual)
            direction = descent + _safe_ratio(next_slope, slope) * direction
            slope = next_slope
    return signal - residual


def _evaluate_one(
    estimate: Float[Array, "s t"],
    target: Float[Array, "s t"],
    variant: str,
    num_taps: int,
) -> BssEval:
    """Evaluate the estimates of one mixture."""
    # Long enough that the filtered targets do not wrap around.
    size = scipy.fft.next_fast_len(target.shape[-1] + num_taps - 1, real=True)
    reference = jnp.fft.rfft(_normalised(target), size)
    signal = jnp.fft.rfft(_normalised(estimate), size)
    own = jnp.concatenate(
        [
            _project(
                _projector(reference[j : j + 1], size, num_taps),
                signal[j : j + 1],
                size,
                num_taps,
            )
            for j in range(target.shape[0])
        ]
    )
    every = own
    if target.shape[0] > 1:
        joint = _projector(reference, size, num_taps)
        every = _project(joint, signal, size, num_taps)
    energy = partial(_energy, size=size)
    sir = _ratio_db(energy(own), energy(every - own))
    sar = _ratio_db(energy(every), energy(signal - every))
    if variant == "sources":
        return BssEval(_ratio_db(energy(own), energy(signal - own)), sir, sar)
    error = jnp.sum((estimate - target) ** 2, axis=-1)
    return BssEval(_ratio_db(jnp.sum(target**2, axis=-1), error), sir, sar)


@partial(jax.jit, static_argnames=("variant", "num_taps"))
def _evaluate(
    estimates: Float[Array, "p s t"],
    targets: Float[Array, "p s t"],
    variant: str,
    num_taps: int,
) -> BssEval:
    # One mixture at a time: the Gram matrix of two sources alone takes 4 MiB, and
    # stays in the cache.
    return jax.lax.map(
        lambda pair: _evaluate_one(pair[0], pair[1], variant, num_taps),
        (estimates, targets),
    )


def bss_eval(
    estimates: Float[Array, "*b s t"],
    targets: Float[Array, "*b s t"],
    variant: str = "images",
    *,
    num_taps: int = 512,
) -> BssEval:
    """Evaluate estimates of all sources of each mixture, without permutation.

    SIR = |P_s e|^2 / |P e - P_s e|^2 and SAR = |P e|^2 / |e - P e|^2 in both
    variants. ``"images"`` (BSS-eval v4, mono, one window over the signal, the
    protocol of the published tables) has SDR = |s|^2 / |e - s|^2, the plain SNR;
    ``"sources"`` (v3) forgives filtering: SDR = |P_s e|^2 / |e - P_s e|^2.

    Values are finite for finite input, clipped to +-200 dB; float32 resolves up to
    about 120 dB. Silence: a ratio of nothing to something is -200 dB, of something
    to nothing +200 dB, of nothing to nothing 0 dB. So a silent target has SIR
    -200 dB (and SDR -200 dB unless its estimate is silent too), a silent estimate
    SIR and SAR 0 dB; a silent target adds nothing to P, which leaves the other
    sources' values those of an evaluation without it.

    Args:
      estimates: waveforms ``[..., S, T]``, source by source.
      targets: the true sources, in the same order.
      variant: ``"images"`` or ``"sources"``.
      num_taps: length of the allowed distortion filters.

    Returns:
      SDR, SIR and SAR in dB, each ``[..., S]``.

    Raises:
      ValueError: shapes differ, no samples, not floating, or an unknown variant.
    """
    if variant not in ("images", "sources"):
        raise ValueError(f"variant is {variant!r}, expected 'images' or 'sources'")
    if estimates.ndim < 2 or 0 in estimates.shape or estimates.shape != targets.shape:
        raise ValueError(
            f"estimates has shape {estimates.shape}, expected [..., S, T] like targets,"
            f" whose shape is {targets.shape}"
        )
    dtype = jnp.result_type(estimates, targets)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"estimates has dtype {estimates.dtype}, expected floating")
    batch, shape = estimates.shape[:-2], (-1, *estimates.shape[-2:])
    result = _evaluate(
        jnp.asarray(estimates, dtype).reshape(shape),
        jnp.asarray(targets, dtype).reshape(shape),
        variant,
        num_taps,
    )
    return BssEval(*(value.reshape(*batch, -1) for value in result))
