"""Apply a mask computed at the model's rate to a recording at its own rate.

Separating at the model's rate and resampling the estimate back would lose all
that lies above the model's Nyquist frequency. Instead the recording gets an STFT
of its own whose window and hop last as long as the model's, the mask is
interpolated in Hz and seconds, and the band that the model cannot hear follows
the mask of the highest band it can. The inverse STFT is exact, so a mask of ones
returns the recording and its length to the sample; `marssep_jax.running_filter`
goes through a recording of any length.
"""

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.config import FrontendConfig
from marssep_jax.features import frame_spectra, make_frontend, overlap_add

# ours: overlap of two windows, as a share of their frames. A quarter of a
# four-second window fades slowly enough not to be heard and costs a third more.
OVERLAP_SHARE = 0.25
# ours: shares of the model's Nyquist frequency. Above the second the resampler's
# own roll-off has emptied the model's bins and their mask means little; the mean
# of the band between the two is less noisy than a single row.
TOP_BAND = (0.8, 0.95)


class WindowPlan(NamedTuple):
    """How a recording of one sample rate meets the model's windows.

    ``n_fft``, ``hop`` and ``step_frames``, the frames that a window adds, are of the
    recording's own STFT; the rest is the model's: samples at its rate and columns of
    its masks.
    """

    rate_hz: int
    n_fft: int
    hop: int
    step_frames: int
    columns_per_frame: Fraction
    length: int
    stride: int
    stride_columns: int
    overlap_columns: int

    def columns_of(self, frames: np.ndarray) -> np.ndarray:
        """Return the fractional mask columns at frames of the recording's STFT."""
        # One rounding, so that columns and frames of equal length meet exactly.
        share = self.columns_per_frame
        return frames * share.numerator / share.denominator


def plan_windows(config: FrontendConfig, rate_hz: int) -> WindowPlan:
    """Lay out windows, and the STFT of a recording beside them."""
    overlap = max(1, round(OVERLAP_SHARE * config.num_frames))
    stride = config.num_frames - overlap
    n_fft, hop = config.n_fft, config.hop
    if rate_hz != config.sample_rate_hz:
        step = math.lcm(2, n_fft // math.gcd(n_fft, hop))
        n_fft = _fast_length(n_fft * rate_hz / config.sample_rate_hz, step)
        hop = n_fft * config.hop // config.n_fft
    columns = Fraction(hop * config.sample_rate_hz, rate_hz * config.hop)
    return WindowPlan(
        rate_hz=rate_hz,
        n_fft=n_fft,
        hop=hop,
        step_frames=max(1, int(stride / columns)),
        columns_per_frame=columns,
        length=config.num_samples,
        stride=stride * config.hop,
        stride_columns=stride,
        overlap_columns=overlap,
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

    ``spread``: mask ``[b, h, n]``, its columns at the recording's frames -> gain
    ``[b, f', n]`` on the recording's bins. ``apply``: gain and one channel's samples
    under those frames, ``[b, (n - 1 + ceil(n_fft / hop)) * hop]`` -> the same samples
    filtered, times the sum of squared windows.
    """

    plan: WindowPlan
    spread: Callable[[Float[Array, "b h n"]], Float[Array, "b f n"]]
    apply: Callable[[Float[Array, "b f n"], Float[Array, "b t"]], Float[Array, "b t"]]


@functools.lru_cache(maxsize=16)
def make_transfer(config: FrontendConfig, rate_hz: int) -> Transfer:
    """Build the transfer to a sample rate; one compilation for each rate."""
    plan = plan_windows(config, rate_hz)
    frontend = make_frontend(config)

    def spread(mask: Float[Array, "b h n"]) -> Float[Array, "b f n"]:
        gain = frontend.from_grid(mask)
        if rate_hz == config.sample_rate_hz:
            return gain
        return _read_bins(gain, config, plan)

    def apply(
        gain: Float[Array, "b f n"], samples: Float[Array, "b t"]
    ) -> Float[Array, "b t"]:
        spectrum = frame_spectra(samples, plan.n_fft, plan.hop)
        return overlap_add(gain * spectrum, plan.n_fft, plan.hop)

    return Transfer(plan, jax.jit(spread), jax.jit(apply))


def read_columns(
    mask: Float[np.ndarray, "h w"], position: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "h n"]:
    """Interpolate a mask linearly at fractional columns, ends held."""
    last = mask.shape[1] - 1
    position = np.clip(position, 0, last)
    low = np.floor(position).astype(np.int64)
    share = (position - low).astype(mask.dtype)
    below = mask[:, low]
    return below + share * (mask[:, np.minimum(low + 1, last)] - below)


def _read_bins(
    gain: Float[Array, "b f n"], config: FrontendConfig, plan: WindowPlan
) -> Float[Array, "b f2 n"]:
    """Read a gain at the Hz of another STFT's bins."""
    ratio = plan.rate_hz / config.sample_rate_hz
    bins = np.arange(plan.n_fft // 2 + 1) * ratio * config.n_fft / plan.n_fft
    low, high = (round(share * (config.num_bins - 1)) for share in TOP_BAND)
    top = jnp.mean(gain[:, low : high + 1], axis=1, keepdims=True)
    above = jnp.asarray(bins > high)[None, :, None]
    position = np.clip(bins, 0, config.num_bins - 1)
    at = np.clip(np.floor(position).astype(np.int32), 0, config.num_bins - 2)
    share = jnp.asarray((position - at)[None, :, None], gain.dtype)
    below = gain[:, at]
    return jnp.where(above, top, below + share * (gain[:, at + 1] - below))
