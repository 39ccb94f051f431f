"""Log-mel features as LAION's CLAP hears sound.

Ten seconds at 48 kHz, periodic Hann of 1024 samples each 480, centred over mirrored
ends, 64 mels from 50 Hz to 14 kHz, decibels of power. `clap_log_mel` runs inside a
compiled function; `clap_log_mel_host` is the same in float64 for files.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.preprocessing.clips import (
    CLAP_RATE_HZ,
    CLAP_WINDOW_SAMPLES,
    Samples,
)
from marssep_jax.preprocessing.filterbanks import hz_filters
from marssep_jax.preprocessing.framing import (
    along_last,
    as_float32,
    as_float64,
    cut_frames,
    power_spectrum,
)

NUM_MELS = 64
NUM_FRAMES = 1_001
N_FFT = 1_024
HOP_SAMPLES = 480
LOW_HZ, HIGH_HZ = 50.0, 14_000.0
"""Of the published checkpoints; the class default in transformers begins at 0 Hz."""
POWER_FLOOR = 1e-10
"""-100 dB; below it the gradient is zero."""
INT16_PEAK = 32_767.0


def _log_mel(waveform: Any, scale: str, xp: Any) -> Any:
    if waveform.shape[-1] != CLAP_WINDOW_SAMPLES:
        raise ValueError(
            f"waveform has {waveform.shape[-1]} samples, expected "
            f"{CLAP_WINDOW_SAMPLES}: 10 s at 48 kHz, as clap_windows cuts them"
        )
    filters = hz_filters(NUM_MELS, CLAP_RATE_HZ, N_FFT, LOW_HZ, HIGH_HZ, scale)
    mirror = [(0, 0)] * (waveform.ndim - 1) + [(N_FFT // 2, N_FFT // 2)]
    padded = xp.pad(waveform, mirror, mode="reflect")
    frame = cut_frames(padded, N_FFT, HOP_SAMPLES, NUM_FRAMES, xp)
    window = along_last(np.hanning(N_FFT + 1)[:-1], frame, xp)
    power = power_spectrum(frame * window, N_FFT, xp)
    mel = power @ xp.asarray(filters, power.dtype)
    return 10.0 * xp.log10(xp.maximum(mel, POWER_FLOOR))


def clap_log_mel(
    waveform: Float[Array, "*b t"], scale: str = "slaney"
) -> Float[Array, "*b 1001 64"]:
    """Return CLAP's audio input; compiles, and differentiates at silence too.

    Args:
      waveform: mono windows of 480 000 samples in [-1, 1] at 48 kHz, of any
        floating type; `clap_windows` cuts and fills them.
      scale: ``slaney`` (equal area) for unfused checkpoints, ``htk`` (equal height)
        for fused ones.

    Returns:
      Float32 decibels ``[..., frame, mel]``.

    Raises:
      ValueError: not floating, another length, or another scale.
    """
    # A matrix unit's short floats would be off by 0.02 dB here.
    with jax.default_matmul_precision("highest"):
        return _log_mel(as_float32(waveform), scale, jnp)


def clap_log_mel_host(
    waveform: Float[np.ndarray, "*b t"], scale: str = "slaney"
) -> Float[np.ndarray, "*b 1001 64"]:
    """Return what `clap_log_mel` does, computed in float64, as float32.

    Raises:
      ValueError: not floating, another length, or another scale.
    """
    return _log_mel(as_float64(waveform), scale, np).astype(np.float32)


def quantise_int16(
    waveform: Float[Samples, "*b t"],
) -> Float[Samples, "*b t"]:
    """Clip to [-1, 1] and cut to 16 bits, as LAION's own package does first.

    Truncated towards zero, in float32 on host and device alike. For scores only: its
    gradient is zero.
    """
    xp: Any = np if isinstance(waveform, np.ndarray) else jnp
    steps = xp.clip(waveform.astype(np.float32), -1.0, 1.0) * np.float32(INT16_PEAK)
    return xp.trunc(steps) / np.float32(INT16_PEAK)
