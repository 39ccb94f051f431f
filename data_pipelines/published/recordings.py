"""Find recordings in a user's folder and read them as a protocol wants them."""

import pathlib
from typing import NamedTuple

import numpy as np

from data_pipelines.published.plans import Recording
from data_pipelines.video_sources import Index, Source

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
"""Files that soundfile reads, those of 16 bits sample by sample."""

CLIP_S = 10
"""Seconds of a clip of VGGSound, where the file is the whole video."""

FULL_SCALE = 32_768
CLIP_SAMPLES = 65_535
"""omnisep: a crop of 4.096 s at 16 kHz, 256 frames of its spectrogram."""


class UnreadableError(ValueError):
    """A recording that cannot be used, with the reason."""


class Heard(NamedTuple):
    """What was read of a recording.

    Attributes:
      audio: int16 [T] at its own level.
      frames: JPEG files of a video, one a second.
    """

    audio: np.ndarray
    frames: tuple[bytes, ...] = ()


def find(recording: Recording, index: Index) -> Source | None:
    """Return where a recording is, or None."""
    if recording.item is None:
        there = recording.file is not None and recording.file.is_file()
        return Source(str(recording.file)) if there else None
    source = index.find(recording.item)
    if source is None or recording.item.start_s is not None:
        return source
    # A clip of VGGSound is no stand-in for a whole video of MUSIC.
    return source if pathlib.Path(source.media).stem == recording.item.video else None


def read_recording(
    recording: Recording, source: Source, rate_hz: int, image_size: int
) -> Heard:
    """Read a recording, or the sound and the pictures of a video.

    Args:
      recording: What the list asks for.
      source: Of `find`.
      rate_hz: The wanted rate.
      image_size: Side of a video's pictures.

    Raises:
      UnreadableError: saying why nothing can be used of it.
    """
    path, item = pathlib.Path(source.media), recording.item
    if path.suffix.lower() in SUFFIXES and source.start_s is None:
        return Heard(read_int16(path, rate_hz))
    from data_pipelines import video_decoding

    seconds = CLIP_S if item is not None and item.start_s is not None else None
    form = video_decoding.Form(rate_hz, image_size, seconds)
    try:
        extracted = video_decoding.extract(source, form)
    except (video_decoding.UnreadableError, OSError) as error:
        raise UnreadableError(f"unreadable: {error}") from error
    return Heard(extracted.audio, extracted.frames)


def read_int16(path: pathlib.Path, sample_rate_hz: int) -> np.ndarray:
    """Read a recording at its own level.

    A mono file of 16 bits at the wanted rate is taken sample by sample. Otherwise
    channels are averaged, the rate is changed by soxr's high quality filter, and
    the result is rounded to 16 bits, clipped where it passes them.

    Args:
      path: A file that soundfile reads.
      sample_rate_hz: The wanted rate.

    Returns:
      int16 [T], T > 0.

    Raises:
      UnreadableError: no audio, no samples, or samples that are not finite.
    """
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(path) as file:
            rate, subtype = file.samplerate, file.subtype
            plain = subtype == "PCM_16" and file.channels == 1
            dtype = "int16" if plain and rate == sample_rate_hz else "float64"
            wave = file.read(dtype=dtype, always_2d=True)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise UnreadableError("unreadable: no audio file") from error
    if not len(wave):
        raise UnreadableError("unreadable: no samples")
    if wave.dtype == np.int16:
        return wave[:, 0]
    if not np.isfinite(wave).all():
        raise UnreadableError("unreadable: samples that are not finite")
    mono = soxr.resample(wave.mean(axis=1), rate, sample_rate_hz, quality="HQ")
    if not len(mono):
        raise UnreadableError("unreadable: no samples")
    whole = np.rint(mono * FULL_SCALE)
    return np.clip(whole, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def crop_start(num_frames: int | None, rate_hz: int) -> int:
    """Return the sample that a crop begins at; it may lie before the recording."""
    if num_frames is None:
        return 0
    return int((num_frames // 2 - 0.5) * rate_hz) - CLIP_SAMPLES // 2


def central_crop(audio: np.ndarray, num_frames: int, rate_hz: int) -> np.ndarray:
    """Crop 65535 samples around a recording's middle frame (OmniSep's rule).

    The middle is second c - 1/2 for frame c = num_frames // 2, counted from 1. The
    crop has 32767 samples on either side of it and one zero at its end; where it
    sticks out of the recording it is zero. A recording that is shorter than a crop
    is repeated first.

    Args:
      audio: int16 [T].
      num_frames: Frames at 1 per second that the list counts.
      rate_hz: Sampling rate.

    Returns:
      int16 [65535].
    """
    if len(audio) < CLIP_SAMPLES:
        audio = np.tile(audio, CLIP_SAMPLES // len(audio) + 1)
    first = crop_start(num_frames, rate_hz)
    start = max(0, first)
    piece = audio[start : max(start, first + 2 * (CLIP_SAMPLES // 2))]
    crop = np.zeros(CLIP_SAMPLES, np.int16)
    crop[start - first : start - first + len(piece)] = piece
    return crop


def beginning(audio: np.ndarray, num_samples: int) -> np.ndarray:
    """Take a recording's beginning, zeros behind its end: int16 [num_samples]."""
    crop = np.zeros(num_samples, np.int16)
    crop[: len(audio)] = audio[:num_samples]
    return crop


def length_at(path: str, sample_rate_hz: int) -> int:
    """Return a file's length at another rate by its header; 0 if it has none."""
    import soundfile

    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError, TypeError):
        return 0
    return round(info.frames * sample_rate_hz / info.samplerate)
