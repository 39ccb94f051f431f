"""BSS-eval: how much of an estimate is target, interference and artefact.

Each estimate is split by least-squares projections on 512 delays of the targets:
P_s on those of its own target, P on those of all of them. The projections are found
by conjugate gradients on the signals' spectra, preconditioned by the inverse of the
Toeplitz normal equations under a tiny ridge: the ridge leaves no trace, and float32
stays honest on nearly singular targets.
"""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import scipy.fft
from jaxtyping import Array, Complex, Float, Int

from marssep_jax.metrics import toeplitz

DB_LIMIT = 200.0
"""Values are clipped to +-200 dB: what an empty numerator or denominator gives."""


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

NUM_TOGETHER = 8
"""Most mixtures evaluated side by side."""


class BssEval(NamedTuple):
    """Ratios in dB, sources in the order given."""

    sdr: Float[Array, "*b s"]
    sir: Float[Array, "*b s"]
    sar: Float[Array, "*b s"]


class PermutedBssEval(NamedTuple):
    """Ratios in dB by target, of the estimate ``permutation`` names for each."""

    sdr: Float[Array, "*b s"]
    sir: Float[Array, "*b s"]
    sar: Float[Array, "*b s"]
    permutation: Int[Array, "*b s"]


class _Ratios(NamedTuple):
    plain_sdr: Float[Array, "*b s"]
    filtered_sdr: Float[Array, "*b s"]
    sir: Float[Array, "*b s"]
    sar: Float[Array, "*b s"]


def _inner(
    first: Complex[Array, "*b m"], second: Complex[Array, "*b m"], size: int
) -> Float[Array, "*b"]:
    """Return the inner product of real signals from their half spectra (Parseval)."""
    power = first.real * second.real + first.imag * second.imag
    twice = 2 * jnp.sum(power, axis=-1) - power[..., 0]
    return (twice - power[..., -1] if size % 2 == 0 else twice) / size


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

    patience = DOUBLE if jnp.finfo(signal.dtype).bits == 64 else SINGLE

    def step(carry: _Descent) -> _Descent:
        descent = toeplitz.solve(inverse, correlate(carry.residual))
        change = jnp.sum(spectrum[None] * jnp.fft.rfft(descent, size), axis=1)
        # Both by what they are, not by what exact arithmetic would make of them: the
        # residual then never grows, whatever the inverse is worth.
        again = _safe_ratio(_inner(change, carry.change, size), carry.norm)
        change = change - again[:, None] * carry.change
        norm = _energy(change, size)
        length = _safe_ratio(_inner(carry.residual, change, size), norm)
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


MAX_PERMUTED = 8
"""Most sources that all orders are tried for: 40,320 of them."""


def bss_eval_permuted(
    estimates: Float[Array, "*b s t"],
    targets: Float[Array, "*b s t"],
    variant: str = "images",
    *,
    num_taps: int = 512,
) -> PermutedBssEval:
    """Evaluate estimates whose order is unknown: the one of highest mean SIR counts.

    As mir_eval's and museval's ``compute_permutation`` do it, for each mixture by
    itself.

    Args:
      estimates: waveforms ``[..., S, T]`` in any order.
      targets: the true sources.
      variant: as of `bss_eval`.
      num_taps: length of the allowed distortion filters.

    Returns:
      SDR, SIR and SAR in dB by target, and the number of the estimate that was taken
      for each, all ``[..., S]``.

    Raises:
      ValueError: as `bss_eval`, or more than eight sources.
    """
    num = targets.shape[-2] if targets.ndim > 1 else 0
    if num > MAX_PERMUTED:
        raise ValueError(f"targets has {num} sources, expected at most {MAX_PERMUTED}")
    # Rolled by r, estimate j + r meets target j: S evaluations meet all pairs.
    rolled = [
        bss_eval(jnp.roll(estimates, -r, axis=-2), targets, variant, num_taps=num_taps)
        for r in range(num)
    ]
    pairs = jax.tree.map(lambda *values: jnp.stack(values, axis=-1), *rolled)
    order = jnp.asarray(list(itertools.permutations(range(num))), jnp.int32)
    shift = (order - jnp.arange(num, dtype=jnp.int32)[None]) % num

    def along(values: Array, shifts: Array) -> Array:
        return jnp.take_along_axis(values, shifts[..., None], axis=-1)[..., 0]

    sir = pairs.sir[..., None, :, :]
    every = along(sir, shift.reshape((1,) * (sir.ndim - 3) + shift.shape))
    best = jnp.argmax(every.mean(axis=-1), axis=-1)
    chosen = jax.tree.map(lambda values: along(values, shift[best]), pairs)
    return PermutedBssEval(chosen.sdr, chosen.sir, chosen.sar, order[best])
