"""The level of clips and sources, and how a waveform becomes int16."""

import numpy as np

LEVEL = 0.1
"""RMS of clips and of sources before their gain, relative to full scale: two
sources at +5 dB still peak below 1 as a rule."""


def to_int16(waveform: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Scale a waveform to a level and quantise it without clipping.

    Args:
      waveform: Samples [T], not silent.
      level: Wanted RMS relative to full scale; lowered where a peak would clip.

    Returns:
      int16 [T].

    Raises:
      ValueError: the waveform is silent or not finite.
    """
    waveform = np.asarray(waveform, np.float64)
    rms = float(np.sqrt(np.mean(waveform**2)))
    if not np.isfinite(rms) or rms <= 0:
        raise ValueError(f"waveform has level {rms}, expected a finite one above 0")
    scaled = waveform * (level / rms)
    scaled *= min(1.0, 0.99 / np.abs(scaled).max())
    return np.rint(scaled * 32767).astype(np.int16)
