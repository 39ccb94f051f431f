"""Where an encoder listens: fixed lengths at fixed positions.

Rewards and scores must not depend on chance, so nothing is cropped at random, as
the published feature extractors do. All positions are integers computed without
rounding; the cuts are static slices, the same for NumPy and JAX.
"""

from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Samples = TypeVar("Samples", np.ndarray, Array)

IMAGEBIND_CLIPS = 3
IMAGEBIND_CLIP_SECONDS = 2
CLAP_RATE_HZ = 48_000
CLAP_WINDOW_SAMPLES = 480_000
"""10 s at 48 kHz."""


def clip_spans(
    length: int,
    rate_hz: int | float | Fraction,
    num_clips: int,
    seconds: int = IMAGEBIND_CLIP_SECONDS,
) -> list[tuple[int, int]]:
    """Return the evenly spread clips of a recording or video.

    Clip i of n starts at i max(D - seconds, 0) / (n - 1), so that the first one
    begins with the recording and the last one ends with it. ImageBind pins this
    rule (a released version of its sampler divides by n); its duration is a float,
    so that at some lengths it cuts one sample before the exact place taken here.
    All clips of a recording that is shorter than one are that recording.

    Args:
      length: samples or frames.
      rate_hz: of these; a float is taken at its exact binary value, so a film's
        30 000/1001 is best given as a Fraction.
      num_clips: n; a single clip is the first.
      seconds: length of a clip.

    Returns:
      (first, one past the last) of each, at least one sample long.

    Raises:
      ValueError: something that is not positive.
    """
    for name, value in (
        ("length", length),
        ("rate_hz", rate_hz),
        ("num_clips", num_clips),
        ("seconds", seconds),
    ):
        if not value > 0:
            raise ValueError(f"{name} is {value}, expected a number above 0")
    rate = Fraction(rate_hz)
    room = max(length / rate - seconds, Fraction(0))
    spans = []
    for i in range(num_clips):
        start = i * room / max(num_clips - 1, 1)
        first = min(int(start * rate), length - 1)
        last = min(int((start + seconds) * rate), length)
        spans.append((first, max(last, first + 1)))
    return spans


def imagebind_clips(
    waveform: Float[Samples, "*b t"],
    rate_hz: int,
    num_clips: int = IMAGEBIND_CLIPS,
) -> Float[Samples, "*b k s"]:
    """Cut the clips of 2 s that ImageBind averages over.

    Args:
      waveform: samples ``[..., t]``; under 2 s every clip is the whole of it.
      rate_hz: their rate.
      num_clips: k.

    Returns:
      ``[..., k, min(t, 2 rate)]``, NumPy or JAX as it came.

    Raises:
      ValueError: no samples, or a number that is not positive.
    """
    spans = clip_spans(waveform.shape[-1], rate_hz, num_clips)
    xp = _module_of(waveform)
    return xp.stack([waveform[..., first:last] for first, last in spans], axis=-2)


def remove_clip_mean(
    clips: Float[Samples, "*b c t"],
) -> Float[Samples, "*b c t"]:
    """Subtract each clip's mean over its channels and samples.

    ImageBind's own step before the filter bank. Because that subtracts every
    frame's mean as well, it changes nothing but rounding in clips of 25 ms and
    more; shorter ones are padded after it, and it saves them a step.
    """
    return clips - clips.mean(axis=(-2, -1), keepdims=True)


class ClapWindows(NamedTuple):
    """Windows of 10 s, and which share of the recording each of them holds.

    The weights sum to 1. An embedding of the recording is the mean of the windows'
    unit vectors under them.
    """

    samples: Float[Array, "*b k s"] | Float[np.ndarray, "*b k s"]
    weight: Float[np.ndarray, " k"]


def clap_windows(
    waveform: Float[Samples, "*b t"],
) -> ClapWindows:
    """Cut consecutive windows of 480 000 samples from a recording's start.

    Every sample is heard once, and the last window is repeated as a short clip is
    (`repeat_pad`). Its weight is what it holds, so that a remainder of a few
    samples does not outvote ten seconds.

    Raises:
      ValueError: no samples.
    """
    size = CLAP_WINDOW_SAMPLES
    length = waveform.shape[-1]
    if not length:
        raise ValueError(
            f"waveform has shape {waveform.shape}, expected [..., t] with t >= 1"
        )
    starts = range(0, length, size)
    windows = [repeat_pad(waveform[..., s : s + size], size) for s in starts]
    held = [min(size, length - s) for s in starts]
    weight = np.asarray(held, np.float32) / np.float32(length)
    return ClapWindows(_module_of(waveform).stack(windows, axis=-2), weight)


def repeat_pad(waveform: Float[Samples, "*b t"], length: int) -> Float[Samples, "*b s"]:
    """Repeat a clip as often as it fits whole into ``length``, then add zeros.

    Raises:
      ValueError: no samples, or more than ``length``.
    """
    num_samples = waveform.shape[-1]
    if not 0 < num_samples <= length:
        raise ValueError(
            f"waveform has {num_samples} samples, expected 1 to {length} of them"
        )
    xp = _module_of(waveform)
    copies = (1,) * (waveform.ndim - 1) + (length // num_samples,)
    room = [(0, 0)] * (waveform.ndim - 1) + [(0, length % num_samples)]
    return xp.pad(xp.tile(waveform, copies), room)


def _module_of(value: np.ndarray | Array) -> Any:
    return np if isinstance(value, np.ndarray) else jnp
