"""Apply a mask computed at the model's rate to a recording at its own rate.

Separating at the model's rate and resampling the estimate back would lose all
that lies above the model's Nyquist frequency. Instead the recording gets an STFT
of its own whose window and hop last as long as the model's, the mask is
interpolated in Hz and seconds, and the band that the model cannot hear follows
the mask of the highest band it can. The inverse STFT is exact, so a mask of ones
returns the recording and its length to the sample.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.config import FrontendConfig
from marssep_jax.features import istft, make_frontend, stft

# ours: overlap of two windows, as a share of their frames. A quarter of a
# four-second window fades slowly enough not to be heard and costs a third more.
OVERLAP_SHARE = 0.25
# ours: shares of the model's Nyquist frequency. Above the second the resampler's
# own roll-off has emptied the model's bins and their mask means little; the mean
# of the band between the two is less noisy than a single row.
TOP_BAND = (0.8, 0.95)


class WindowPlan(NamedTuple):
    """Windows at one sample rate; frames and columns are the model's.

    ``length``, ``stride`` and ``overlap`` are samples at the recording's rate.
    """

    rate_hz: int
    n_fft: int
    hop: int
    length: int
    stride: int
    overlap: int
    stride_frames: int
    overlap_frames: int


def plan_windows(config: FrontendConfig, rate_hz: int) -> WindowPlan:
    """Scale the model's window, STFT and overlap to a sample rate."""
    ratio = rate_hz / config.sample_rate_hz
    overlap_frames = max(1, round(OVERLAP_SHARE * config.num_frames))
    stride_frames = config.num_frames - overlap_frames
    length = round(config.num_samples * ratio)
    stride = min(round(stride_frames * config.hop * ratio), length)
    n_fft, hop = config.n_fft, config.hop
    if rate_hz != config.sample_rate_hz:
        step = math.lcm(2, n_fft // math.gcd(n_fft, hop))
        n_fft = _fast_length(n_fft * ratio, step)
        hop = n_fft * config.hop // config.n_fft
    return WindowPlan(
        rate_hz,
        n_fft,
        hop,
        length,
        stride,
        length - stride,
        stride_frames,
        overlap_frames,
    )


def _fast_length(least: float, step: int) -> int:
    """Return the next multiple of ``step`` that has no prime factor above 5."""
    size = step * max(1, math.ceil(least / step))
    while True:
        rest = size // step
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += step


class Transfer(NamedTuple):
    """Jitted functions for one sample rate.

    ``spread``: mask ``[b, h, w]`` on the model's grid -> gain ``[b, f', n']`` on
    the recording's STFT; ``apply``: gain and one channel ``[b, length]`` ->
    estimate ``[b, length]``.
    """

    plan: WindowPlan
    spread: Callable[[Float[Array, "b h w"]], Float[Array, "b f n"]]
    apply: Callable[[Float[Array, "b f n"], Float[Array, "b t"]], Float[Array, "b t"]]


@functools.lru_cache(maxsize=16)
def make_transfer(config: FrontendConfig, rate_hz: int) -> Transfer:
    """Build the transfer to a sample rate; one compilation for each rate."""
    plan = plan_windows(config, rate_hz)
    frontend = make_frontend(config)

    def spread(mask: Float[Array, "b h w"]) -> Float[Array, "b f n"]:
        gain = frontend.from_grid(mask)
        if rate_hz == config.sample_rate_hz:
            return gain
        return _interpolate(gain, config, plan)

    def apply(
        gain: Float[Array, "b f n"], waveform: Float[Array, "b t"]
    ) -> Float[Array, "b t"]:
        spectrum = stft(waveform, plan.n_fft, plan.hop)
        return istft(gain * spectrum, waveform.shape[-1], plan.n_fft, plan.hop)

    return Transfer(plan, jax.jit(spread), jax.jit(apply))


def _interpolate(
    gain: Float[Array, "b f n"], config: FrontendConfig, plan: WindowPlan
) -> Float[Array, "b f2 n2"]:
    """Read a gain at the Hz and seconds of another STFT's bins and frames."""
    ratio = plan.rate_hz / config.sample_rate_hz
    frames = np.arange(1 + plan.length // plan.hop) * plan.hop / (ratio * config.hop)
    columns = _between(gain, frames, axis=-1)
    bins = np.arange(plan.n_fft // 2 + 1) * ratio * config.n_fft / plan.n_fft
    low, high = (round(share * (config.num_bins - 1)) for share in TOP_BAND)
    top = jnp.mean(columns[:, low : high + 1], axis=1, keepdims=True)
    above = jnp.asarray(bins > high)[None, :, None]
    return jnp.where(above, top, _between(columns, bins, axis=-2))


def _between(values: Array, position: np.ndarray, axis: int) -> Array:
    """Interpolate linearly at fractional indices of one axis, ends held."""
    size = values.shape[axis]
    position = np.clip(position, 0, size - 1)
    low = np.clip(np.floor(position).astype(np.int32), 0, max(size - 2, 0))
    shape = [1] * values.ndim
    shape[axis] = -1
    share = jnp.asarray((position - low).reshape(shape), values.dtype)
    below = jnp.take(values, low, axis=axis)
    above = jnp.take(values, np.minimum(low + 1, size - 1), axis=axis)
    return below + share * (above - below)
