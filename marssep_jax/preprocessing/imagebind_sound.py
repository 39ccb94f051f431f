"""From samples to what ImageBind's audio tower takes, in one call.

Resample, cut three clips of 2 s, centre them, filter bank. `imagebind_sound` runs
inside a compiled reward, `imagebind_sound_host` on files.
"""

import numpy as np
from jaxtyping import Array, Float

from marssep_jax.preprocessing.clips import (
    IMAGEBIND_CLIPS,
    imagebind_clips,
    remove_clip_mean,
)
from marssep_jax.preprocessing.kaldi import (
    RATE_HZ,
    imagebind_log_mel,
    imagebind_log_mel_host,
)
from marssep_jax.preprocessing.resampling import resample_sinc, resample_sinc_host


def imagebind_sound(
    waveform: Float[Array, "*b t"], rate_hz: int, num_clips: int = IMAGEBIND_CLIPS
) -> Float[Array, "*b k 128 204"]:
    """Return log-mels of a mono waveform's clips; compiles and differentiates.

    Args:
      waveform: samples ``[..., t]`` in [-1, 1], of any floating type.
      rate_hz: their rate, static.
      num_clips: k.

    Returns:
      Float32 ``[..., clip, mel, frame]``.

    Raises:
      ValueError: not floating, no samples, or a number that is not positive.
    """
    mono = resample_sinc(waveform, rate_hz, RATE_HZ)[..., None, :]
    clips = remove_clip_mean(imagebind_clips(mono, RATE_HZ, num_clips).swapaxes(-2, -3))
    return imagebind_log_mel(clips[..., 0, :])


def imagebind_sound_host(
    waveform: Float[np.ndarray, "c t"], rate_hz: int, num_clips: int = IMAGEBIND_CLIPS
) -> Float[np.ndarray, "k 128 204"]:
    """Return log-mels of a recording's clips, computed in float64.

    Of several channels the first is heard alone, as in ImageBind; the mean that a
    clip loses is that of all of them. Mix down first where that is not wanted.

    Args:
      waveform: samples ``[channels, t]`` in [-1, 1].
      rate_hz: their rate.
      num_clips: k.

    Returns:
      Float32 ``[clip, mel, frame]``.

    Raises:
      ValueError: not floating, no samples, or a number that is not positive.
    """
    channels = resample_sinc_host(waveform, rate_hz, RATE_HZ)
    clips = imagebind_clips(channels, RATE_HZ, num_clips).swapaxes(0, 1)
    return imagebind_log_mel_host(remove_clip_mean(clips)[:, 0])
