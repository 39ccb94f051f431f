"""BSS-eval: how much of an estimate is target, interference and artefact.

Each estimate is split by least-squares projections on 512 delays of the targets:
P_s on those of its own target, P on those of all of them. The projections are found
by conjugate gradients on the signals' spectra, preconditioned by the inverse of the
Toeplitz normal equations under a tiny ridge: the ridge leaves no trace, and float32
stays honest on nearly singular targets.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import scipy.fft
from jaxtyping import Array, Complex, Float

from marssep_jax.metrics import toeplitz

DB_LIMIT = 200.0
"""Values are clipped to +-200 dB: what an empty numerator or denominator gives."""

NUM_STEPS = 8
"""Conjugate-gradient steps: float32 is then good to 0.01 dB on ordinary signals. On
pure tones, or with bands 90 dB below the peak, SAR may be off by some tenths."""

NUM_STEPS_DOUBLE = 12
"""Steps in float64, which is asked for where the last digits matter."""

NUM_TOGETHER = 8
"""Most mixtures evaluated side by side."""


class BssEval(NamedTuple):
    """Ratios in dB, sources in the order given."""

    sdr: Float[Array, "*b s"]
    sir: Float[Array, "*b s"]
    sar: Float[Array, "*b s"]


class _Ratios(NamedTuple):
    plain_sdr: Float[Array, "*b s"]
    filtered_sdr: Float[Array, "*b s"]
    sir: Float[Array, "*b s"]
    sar: Float[Array, "*b s"]


def _energy(spectrum: Complex[Array, "*b m"], size: int) -> Float[Array, "*b"]:
    """Return a real signal's energy from its half spectrum (Parseval)."""
    power = jnp.abs(spectrum) ** 2
    twice = 2 * jnp.sum(power, axis=-1) - power[..., 0]
    return (twice - power[..., -1] if size % 2 == 0 else twice) / size


def _ratio_db(signal: Array, noise: Array) -> Array:
    """Return 10 log10(signal / noise): x/0 is +limit, 0/x -limit, 0/0 is 0 dB."""
    tiny = jnp.finfo(signal.dtype).tiny
    # May overflow or underflow: the clip takes both, and 0/0 is exactly one.
    ratio = jnp.maximum(signal, tiny) / jnp.maximum(noise, tiny)
    return jnp.clip(10 * jnp.log10(ratio), -DB_LIMIT, DB_LIMIT)


def _safe_ratio(part: Array, whole: Array) -> Array:
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1), 0)


def _normalised(waveform: Float[Array, "s t"]) -> Float[Array, "s t"]:
    """Scale to unit energy, so that one relative ridge fits; silence stays silent."""
    norm = jnp.sqrt(jnp.sum(waveform**2, axis=-1, keepdims=True))
    return waveform / jnp.where(norm > 0, norm, 1)


def _project(
    spectrum: Complex[Array, "s m"],
    signal: Complex[Array, "e m"],
    size: int,
    num_taps: int,
) -> Complex[Array, "e m"]:
    """Project signals onto all delays of all references, spectra in and out.

    Conjugate gradients on the least-squares problem itself (CGLS), preconditioned,
    from filters of zero.
    """

    def correlate(residual: Array) -> Array:
        cross = jnp.conj(spectrum)[None] * residual[:, None]
        return jnp.fft.irfft(cross, size)[..., :num_taps]

    inverse = toeplitz.invert(
        jnp.fft.irfft(jnp.conj(spectrum)[:, None] * spectrum[None], size)[
            ..., :num_taps
        ]
    )

    def step(_: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        residual, direction, last_slope = carry
        gradient = correlate(residual)
        descent = toeplitz.solve(inverse, gradient)
        slope = jnp.sum(gradient * descent, axis=(-2, -1))
        memory = _safe_ratio(slope, last_slope)
        direction = descent + memory[:, None, None] * direction
        change = jnp.sum(spectrum[None] * jnp.fft.rfft(direction, size), axis=1)
        length = _safe_ratio(slope, _energy(change, size))
        return residual - length[:, None] * change, direction, slope

    no_taps = jnp.zeros(
        (signal.shape[0], spectrum.shape[0], num_taps), signal.real.dtype
    )
    start = (signal, no_taps, no_taps[:, 0, 0])
    double = jnp.finfo(signal.dtype).bits == 64
    num_steps = NUM_STEPS_DOUBLE if double else NUM_STEPS
    return signal - jax.lax.fori_loop(0, num_steps, step, start)[0]


def _evaluate_one(
    estimate: Float[Array, "s t"],
    target: Float[Array, "s t"],
    num_taps: int,
) -> _Ratios:
    """Evaluate the estimates of one mixture."""
    # Long enough that the filtered targets do not wrap around.
    size = scipy.fft.next_fast_len(target.shape[-1] + num_taps - 1, real=True)
    reference = jnp.fft.rfft(_normalised(target), size)
    signal = jnp.fft.rfft(_normalised(estimate), size)
    own = jax.vmap(lambda one, its: _project(one[None], its[None], size, num_taps)[0])(
        reference, signal
    )
    every = own
    if target.shape[0] > 1:
        every = _project(reference, signal, size, num_taps)
    energy = partial(_energy, size=size)
    error = jnp.sum((estimate - target) ** 2, axis=-1)
    return _Ratios(
        _ratio_db(jnp.sum(target**2, axis=-1), error),
        _ratio_db(energy(own), energy(signal - own)),
        _ratio_db(energy(own), energy(every - own)),
        _ratio_db(energy(every), energy(signal - every)),
    )


@partial(jax.jit, static_argnames="num_taps")
def _evaluate(
    estimates: Float[Array, "p s t"],
    targets: Float[Array, "p s t"],
    num_taps: int,
) -> _Ratios:
    # A few mixtures at a time: vectorised, yet within the cache.
    num = targets.shape[0]
    together = max(n for n in range(1, NUM_TOGETHER + 1) if num % n == 0)
    return jax.lax.map(
        lambda pair: _evaluate_one(pair[0], pair[1], num_taps),
        (estimates, targets),
        batch_size=together,
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
    about 130 dB. Silence: a ratio of nothing to something is -200 dB, of something
    to nothing +200 dB, of nothing to nothing 0 dB. So a silent target beside audible
    ones has SIR -200 dB (and SDR -200 dB, unless its estimate is silent too: 0 dB),
    a silent estimate SIR and SAR 0 dB. A silent target adds nothing to P: the other
    sources' values are those of an evaluation without it.

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
    flat = _evaluate(
        jnp.asarray(estimates, dtype).reshape(shape),
        jnp.asarray(targets, dtype).reshape(shape),
        num_taps,
    )
    ratios = _Ratios(*(value.reshape(*batch, -1) for value in flat))
    sdr = ratios.plain_sdr if variant == "images" else ratios.filtered_sdr
    return BssEval(sdr, ratios.sir, ratios.sar)
