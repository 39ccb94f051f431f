"""Band-limited resampling by a windowed sinc, as torchaudio does it by default.

The rest of the project resamples files with soxr, which is better and quicker. Here
the published encoders decide: their inputs were made with this filter, whose
transition band (roll-off 0.99, six zero crossings, Hann window) differs audibly in a
log-mel's top rows. It also compiles, so that a reward computed at 11 025 Hz can be
resampled where it is.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.preprocessing.framing import as_float32, as_float64

ZERO_CROSSINGS = 6
ROLL_OFF = 0.99
PHASES_PER_BLOCK = 64
"""Output samples that share one stretch of input: wider wastes zero weights,
narrower wastes slices. An odd pair of rates would otherwise need a dense matrix of
gigabytes."""


class _Bank(NamedTuple):
    """Filters of one period: ``step`` samples in, ``num_phases`` samples out."""

    step: int
    num_phases: int
    reach: int  # samples that the filters look left of their period
    starts: tuple[int, ...]  # of each block's stretch, in a frame
    weights: np.ndarray  # [block, stretch, phase in block]


@lru_cache(maxsize=8)
def _bank(rate_hz: int, new_rate_hz: int) -> _Bank:
    """Build the filters of a pair of rates.

    Output i of a period weighs input j, both in units of the period, by
    sinc(u) cos^2(pi u / 12) b / o, u = (j / o - i / n) b within +-6: o and n are the
    rates divided by their greatest divisor, b = 0.99 min(o, n).
    """
    divisor = math.gcd(rate_hz, new_rate_hz)
    old, new = rate_hz // divisor, new_rate_hz // divisor
    band = ROLL_OFF * min(old, new)
    reach = math.ceil(ZERO_CROSSINGS * old / band)
    # Several short periods make one that is as long as what the filters overlap.
    periods = max(1, -(-2 * reach // old))
    step, num_phases = periods * old, periods * new
    size = min(PHASES_PER_BLOCK, num_phases)
    num_blocks = -(-num_phases // size)
    frame = step + 2 * reach
    stretch = min(math.ceil(size * old / new) + 1 + 2 * reach, frame)
    first = [min(k * size * old // new, frame - stretch) for k in range(num_blocks)]
    tap = np.add.outer(first, np.arange(stretch)) - reach
    phase = np.arange(num_blocks * size).reshape(num_blocks, size)
    gap = tap[:, :, None] / old - phase[:, None, :] / new
    u = np.clip(gap * band, -ZERO_CROSSINGS, ZERO_CROSSINGS)
    window = np.cos(np.pi * u / (2 * ZERO_CROSSINGS)) ** 2
    return _Bank(
        step, num_phases, reach, tuple(first), np.sinc(u) * window * (band / old)
    )


def _resample(waveform: Any, rate_hz: int, new_rate_hz: int, xp: Any) -> Any:
    for name, value in (("rate_hz", rate_hz), ("new_rate_hz", new_rate_hz)):
        if value != int(value) or value < 1:
            raise ValueError(f"{name} is {value}, expected a whole number above 0")
    rate_hz, new_rate_hz = int(rate_hz), int(new_rate_hz)
    if rate_hz == new_rate_hz:
        return waveform
    bank = _bank(rate_hz, new_rate_hz)
    *lead, length = waveform.shape
    wanted = -(-length * new_rate_hz // rate_hz)
    num_periods = -(-wanted // bank.num_phases)
    total = (num_periods + 1) * bank.step
    room = [(0, 0)] * len(lead) + [(bank.reach, max(total - length, 0))]
    period = xp.pad(waveform, room)[..., :total].reshape(*lead, -1, bank.step)
    # A frame is a period and the two reaches around it; they fit into one more.
    frame = xp.concatenate(
        [period[..., :-1, :], period[..., 1:, : 2 * bank.reach]], axis=-1
    )
    stretch = bank.weights.shape[1]
    parts = [frame[..., first : first + stretch] for first in bank.starts]
    blocks = xp.stack(parts, axis=-3)
    weights = xp.asarray(bank.weights, waveform.dtype)
    weights = weights.reshape((1,) * len(lead) + weights.shape)
    phases = xp.moveaxis(blocks @ weights, -3, -2)
    phases = phases.reshape(*lead, num_periods, -1)[..., : bank.num_phases]
    return phases.reshape(*lead, -1)[..., :wanted]


def resample_sinc(
    waveform: Float[Array, "*b t"], rate_hz: int, new_rate_hz: int
) -> Float[Array, "*b s"]:
    """Resample the last axis; compiles and differentiates, computes in float32.

    Args:
      waveform: samples ``[..., t]`` of any floating type.
      rate_hz: their rate.
      new_rate_hz: the wanted rate; the same one returns the samples.

    Returns:
      Float32 ``[..., ceil(t new_rate_hz / rate_hz)]``.

    Raises:
      ValueError: not floating, no samples, or rates that are no whole numbers.
    """
    with jax.default_matmul_precision("highest"):
        return _resample(as_float32(waveform), rate_hz, new_rate_hz, jnp)


def resample_sinc_host(
    waveform: Float[np.ndarray, "*b t"], rate_hz: int, new_rate_hz: int
) -> Float[np.ndarray, "*b s"]:
    """Return what `resample_sinc` does, in float64 on the host.

    Raises:
      ValueError: not floating, no samples, or rates that are no whole numbers.
    """
    return _resample(as_float64(waveform), rate_hz, new_rate_hz, np)
