"""Mel filter banks of the published encoders, as float64 NumPy constants.

Three conventions that look alike and are not: Kaldi's triangles are straight in mel,
those of the Slaney and HTK kind are straight in Hz, and only Slaney's have equal
area.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

SCALES = ("slaney", "htk")

# Slaney's scale is linear up to 1 kHz and has 27 steps per factor of 6.4 above.
_SLANEY_BREAK_HZ = 1_000.0
_SLANEY_HZ_PER_MEL = 200.0 / 3.0
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


def kaldi_mel(frequency_hz: np.ndarray) -> np.ndarray:
    """Return 1127 ln(1 + f / 700)."""
    return 1127.0 * np.log1p(np.asarray(frequency_hz, np.float64) / 700.0)


@lru_cache(maxsize=8)
def kaldi_filters(
    num_mels: int, rate_hz: int, n_fft: int, low_hz: float
) -> Float[np.ndarray, "f m"]:
    """Return Kaldi's triangles up to the Nyquist frequency, peak 1, not normalised.

    Feet and peak are evenly spaced in mel, and so are the slopes. The Nyquist bin
    has no weight. With ImageBind's 128 rows over 257 bins, row 3 lies between two
    bins and is empty: the model was trained on it so.

    Returns:
      ``[n_fft // 2 + 1, num_mels]``, float64.
    """
    low, high = kaldi_mel(np.array([low_hz, rate_hz / 2]))
    edges = np.linspace(low, high, num_mels + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = kaldi_mel(np.arange(n_fft // 2) * rate_hz / n_fft)[:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return np.pad(filters, ((0, 1), (0, 0)))


def hz_to_mel(frequency_hz: np.ndarray, scale: str) -> np.ndarray:
    """Convert Hz to Slaney's or HTK's mel.

    Raises:
      ValueError: another scale.
    """
    frequency_hz = np.asarray(frequency_hz, np.float64)
    _require_scale(scale)
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + frequency_hz / 700.0)
    ratio = np.maximum(frequency_hz, _SLANEY_BREAK_HZ) / _SLANEY_BREAK_HZ
    linear = np.minimum(frequency_hz, _SLANEY_BREAK_HZ) / _SLANEY_HZ_PER_MEL
    return linear + np.log(ratio) / _SLANEY_LOG_STEP


def mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    """Invert `hz_to_mel`.

    Raises:
      ValueError: another scale.
    """
    mel = np.asarray(mel, np.float64)
    _require_scale(scale)
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    break_mel = _SLANEY_BREAK_HZ / _SLANEY_HZ_PER_MEL
    above = np.exp(np.maximum(mel - break_mel, 0.0) * _SLANEY_LOG_STEP)
    return np.minimum(mel, break_mel) * _SLANEY_HZ_PER_MEL * above


def _require_scale(scale: str) -> None:
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}, expected one of {', '.join(SCALES)}")


@lru_cache(maxsize=8)
def hz_filters(
    num_mels: int, rate_hz: int, n_fft: int, low_hz: float, high_hz: float, scale: str
) -> Float[np.ndarray, "f m"]:
    """Return triangles whose slopes are straight in Hz.

    With ``slaney`` each has area 1 (the heights are 2 / width); with ``htk`` peak 1.

    Returns:
      ``[n_fft // 2 + 1, num_mels]``, float64.

    Raises:
      ValueError: another scale.
    """
    low, high = hz_to_mel(np.array([low_hz, high_hz]), scale)
    edges = mel_to_hz(np.linspace(low, high, num_mels + 2), scale)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = np.linspace(0.0, rate_hz / 2, n_fft // 2 + 1)[:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return filters * (2.0 / (right - left)) if scale == "slaney" else filters
