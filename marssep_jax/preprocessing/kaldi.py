"""Kaldi-style log-mel features as ImageBind hears sound.

25 ms frames each 10 ms at 16 kHz, symmetric Hann, 128 mels, natural log, with
ImageBind's mean and deviation (arXiv 2305.05665, and AST's front end before it).
`imagebind_log_mel` runs inside a compiled update; `imagebind_log_mel_host` is the
same in float64 for files.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.preprocessing.filterbanks import kaldi_filters
from marssep_jax.preprocessing.framing import (
    along_last,
    as_float32,
    as_float64,
    cut_frames,
    pad_end,
    power_spectrum,
)

RATE_HZ = 16_000
NUM_MELS = 128
NUM_FRAMES = 204
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
N_FFT = 512
LOW_HZ = 20.0
PRE_EMPHASIS = 0.97
ENERGY_FLOOR = float(np.finfo(np.float32).eps)
"""Kaldi's floor under an energy; below it the gradient is zero, silence included."""
MEAN = -4.268
DEVIATION = 9.138
"""Of AudioSet's log-mels, as ImageBind was trained with."""


def _log_mel(waveform: Any, num_mels: int, xp: Any) -> Any:
    """Return log mel energies ``[..., n, num_mels]`` of whole frames."""
    num_samples = waveform.shape[-1]
    waveform = pad_end(waveform, max(FRAME_SAMPLES - num_samples, 0), xp)
    num_frames = 1 + (waveform.shape[-1] - FRAME_SAMPLES) // HOP_SAMPLES
    frame = cut_frames(waveform, FRAME_SAMPLES, HOP_SAMPLES, num_frames, xp)
    frame = frame - frame.mean(axis=-1, keepdims=True)
    # Within the frame: its first sample stands for the one before it.
    before = xp.concatenate([frame[..., :1], frame[..., :-1]], axis=-1)
    # np.hanning is symmetric, unlike the periodic window of an STFT.
    window = along_last(np.hanning(FRAME_SAMPLES), frame, xp)
    power = power_spectrum((frame - PRE_EMPHASIS * before) * window, N_FFT, xp)
    filters = kaldi_filters(num_mels, RATE_HZ, N_FFT, LOW_HZ)
    return xp.log(xp.maximum(power @ xp.asarray(filters, power.dtype), ENERGY_FLOOR))


def _imagebind_log_mel(waveform: Any, xp: Any) -> Any:
    # What a longer clip has beyond the last frame is never computed.
    longest = (NUM_FRAMES - 1) * HOP_SAMPLES + FRAME_SAMPLES
    log_mel = xp.swapaxes(_log_mel(waveform[..., :longest], NUM_MELS, xp), -1, -2)
    # Zeros in the log domain, hence not silence: ImageBind pads so.
    padded = pad_end(log_mel, NUM_FRAMES - log_mel.shape[-1], xp)
    return (padded - MEAN) / DEVIATION


def kaldi_log_mel(
    waveform: Float[np.ndarray, "*b t"], num_mels: int = NUM_MELS
) -> Float[np.ndarray, "*b n m"]:
    """Return Kaldi's log-mel energies on the host, in float64.

    Args:
      waveform: samples in [-1, 1] at 16 kHz; fewer than 400 are followed by zeros.
      num_mels: rows of the filter bank, 20 Hz to 8 kHz.

    Returns:
      Natural logarithms ``[..., n, m]``, n = 1 + (t - 400) // 160.

    Raises:
      ValueError: not floating, or no samples.
    """
    return _log_mel(as_float64(waveform), num_mels, np)


def imagebind_log_mel(waveform: Float[Array, "*b t"]) -> Float[Array, "*b 128 204"]:
    """Return ImageBind's audio input; compiles, and differentiates at silence too.

    Each frame loses its mean, is pre-emphasised, windowed and transformed; energies
    are floored before the log; the picture is padded or cut to 204 frames and
    normalised. `remove_clip_mean` is a step of its own, before this one.

    Args:
      waveform: mono samples in [-1, 1] at 16 kHz, of any floating type; fewer than
        400 are followed by zeros, more than 32 880 are cut off.

    Returns:
      Float32 ``[..., mel, frame]``.

    Raises:
      ValueError: not floating, or no samples.
    """
    # A matrix unit's short floats would be off by 0.004 here.
    with jax.default_matmul_precision("highest"):
        return _imagebind_log_mel(as_float32(waveform), jnp)


def imagebind_log_mel_host(
    waveform: Float[np.ndarray, "*b t"],
) -> Float[np.ndarray, "*b 128 204"]:
    """Return what `imagebind_log_mel` does, computed in float64, as float32.

    Raises:
      ValueError: not floating, or no samples.
    """
    return _imagebind_log_mel(as_float64(waveform), np).astype(np.float32)
