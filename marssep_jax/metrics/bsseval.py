"""BSS-eval: how much of an estimate is target, interference and artefact.

Each estimate is split by least-squares projections on 512 delays of the targets:
P_s on those of its own target, P on those of all of them (`metrics.direct` on a
processor, `metrics.descent` on an accelerator).
"""

import concurrent.futures
import itertools
import os
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from marssep_jax.metrics import descent, direct
from marssep_jax.metrics.split import NUM_TOGETHER, Split

DB_LIMIT = 200.0
"""Values are clipped to +-200 dB: what an empty numerator or denominator gives."""


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


def _ratio_db(signal: Array, noise: Array) -> Array:
    """Return 10 log10(signal / noise): x/0 is +limit, 0/x -limit, 0/0 is 0 dB."""
    tiny = jnp.finfo(signal.dtype).tiny
    # May overflow or underflow: the clip takes both, and 0/0 is exactly one.
    ratio = jnp.maximum(signal, tiny) / jnp.maximum(noise, tiny)
    return jnp.clip(10 * jnp.log10(ratio), -DB_LIMIT, DB_LIMIT)


def _solve_in_double(estimates: Array, targets: Array, num_taps: int) -> Split:
    with jax.enable_x64(True):
        found = direct.split(estimates, targets, num_taps)
        return jax.tree.map(lambda value: value.astype(targets.dtype), found)


@partial(jax.jit, static_argnames=("num_taps", "method"))
def _evaluate(
    estimates: Float[Array, "p s t"],
    targets: Float[Array, "p s t"],
    num_taps: int,
    method: str,
) -> _Ratios:
    error = jnp.sum((estimates - targets) ** 2, axis=-1)
    ways = {
        "direct": partial(_solve_in_double, num_taps=num_taps),
        "descent": partial(descent.split, num_taps=num_taps),
    }
    if method != "auto":
        found = ways[method](estimates, targets)
    elif targets.dtype == jnp.float64:
        found = ways["descent"](estimates, targets)
    else:
        found = jax.lax.platform_dependent(
            estimates, targets, cpu=ways["direct"], default=ways["descent"]
        )
    return _Ratios(
        _ratio_db(jnp.sum(targets**2, axis=-1), error),
        _ratio_db(found.own, found.not_own),
        _ratio_db(found.own, found.others),
        _ratio_db(found.every, found.not_every),
    )


def _evaluate_on_cores(
    estimates: Array, targets: Array, num_taps: int, method: str
) -> _Ratios:
    """Evaluate groups side by side, where that can be: XLA runs a loop on one core."""
    groups = range(0, targets.shape[0], NUM_TOGETHER)
    pair = (estimates, targets)
    on_host = not any(isinstance(x, jax.core.Tracer) for x in pair) and all(
        device.platform == "cpu" for x in pair for device in x.devices()
    )
    # Whether there is double precision hangs on the thread.
    if len(groups) < 2 or not on_host or targets.dtype == jnp.float64:
        return _evaluate(estimates, targets, num_taps, method)

    def evaluate(start: int) -> _Ratios:
        part = slice(start, start + NUM_TOGETHER)
        found = _evaluate(estimates[part], targets[part], num_taps, method)
        return jax.block_until_ready(found)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(evaluate, groups))
    return jax.tree.map(lambda *values: jnp.concatenate(values), *parts)


def bss_eval(
    estimates: Float[Array, "*b s t"],
    targets: Float[Array, "*b s t"],
    variant: str = "images",
    *,
    num_taps: int = 512,
    method: str = "auto",
) -> BssEval:
    """Evaluate estimates of all sources of each mixture, without permutation.

    SIR = |P_s e|^2 / |P e - P_s e|^2 and SAR = |P e|^2 / |e - P e|^2 in both
    variants. ``"images"`` (BSS-eval v4, mono, one window over the signal, the
    protocol of the published tables) has SDR = |s|^2 / |e - s|^2, the plain SNR;
    ``"sources"`` (v3) forgives filtering: SDR = |P_s e|^2 / |e - P_s e|^2.

    ``"direct"`` solves the normal equations in double precision, ``"descent"`` goes
    down to the projections in the precision of what is given, by conjugate gradients;
    ``"auto"`` takes the first for float32 on a processor, where it is faster and
    better, else the second. Waveforms that lie on a processor are evaluated on all its
    cores, unless that is within a function that is being compiled.

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
      method: ``"auto"``, ``"direct"`` or ``"descent"``.

    Returns:
      SDR, SIR and SAR in dB, each ``[..., S]``.

    Raises:
      ValueError: shapes differ, no samples, not floating, or an unknown variant or
        method.
    """
    if method not in ("auto", "direct", "descent"):
        raise ValueError(
            f"method is {method!r}, expected 'auto', 'direct' or 'descent'"
        )
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
    flat = _evaluate_on_cores(
        jnp.asarray(estimates, dtype).reshape(shape),
        jnp.asarray(targets, dtype).reshape(shape),
        num_taps,
        method,
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
