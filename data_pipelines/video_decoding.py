"""One video or recording to mono sound and a picture a second.

Worker processes import this module: it needs neither TensorFlow nor JAX.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np
import soxr

from data_pipelines.video_pictures import read_frames, to_jpeg
from data_pipelines.video_sources import Source

SILENCE = 1e-4
"""A video whose RMS is below this has nothing to be heard."""

COMPLETE = 0.9
"""Least share of the stated length that must be decoded."""

SPARE_S = 2
"""A file that is longer than a clip by more than this is the whole video."""

DAMAGE = (av.error.FFmpegError, ValueError, RuntimeError)
"""What decoding a damaged file raises."""


class UnreadableError(ValueError):
    """A video of which nothing can be used, with the reason."""


class Form(NamedTuple):
    """What is made of a video.

    Attributes:
      sample_rate_hz: Rate of the sound.
      image_size: Side of the square pictures.
      clip_s: Seconds taken; None takes the whole video.
    """

    sample_rate_hz: int = 16_000
    image_size: int = 224
    clip_s: int | None = None


class Extracted(NamedTuple):
    """What was made of a video.

    Attributes:
      audio: int16 [T], mono, at the level of the recording.
      frames: JPEG files; number k shows second k + 1/2.
      note: Why there are no pictures, or empty.
    """

    audio: np.ndarray
    frames: tuple[bytes, ...]
    note: str = ""


def extract(source: Source, form: Form) -> Extracted:
    """Decode a video.

    Channels are averaged and resampled by soxr; pictures are cut to their central
    square and resized. A video that breaks off is unreadable, not short.

    Args:
      source: Where it is.
      form: What is made of it.

    Raises:
      UnreadableError: no sound, silence, damage, or not the length it says.
    """
    try:
        with av.open(source.media) as container:
            sound, pictures = _decode(container, source, form)
    except UnreadableError:
        raise
    except DAMAGE as error:
        raise UnreadableError(_reason(error)) from error
    audio = sound.samples()
    frames, note = pictures.frames(len(audio) / form.sample_rate_hz)
    if source.frames is not None:
        frames, note = read_frames(pathlib.Path(source.frames), form.image_size)
    if not is_heard(audio):
        raise UnreadableError("silent: nothing to be heard")
    return Extracted(audio, frames, note)


def is_heard(audio: np.ndarray) -> bool:
    """Return whether int16 samples are any and louder than silence."""
    rms = np.sqrt(np.mean((audio / 32_768.0) ** 2)) if len(audio) else 0.0
    return bool(rms >= SILENCE)


def _reason(error: Exception) -> str:
    """Return ffmpeg's words without the path, which accounts name elsewhere."""
    return " ".join((getattr(error, "strerror", None) or str(error)).split())


def _decode(container: Any, source: Source, form: Form) -> tuple["_Sound", "_Pictures"]:
    track = container.streams.best("audio")
    if track is None:
        raise UnreadableError("no sound: the file has no audio stream")
    film = next(
        (s for s in container.streams.video if not _is_cover(s)),
        None,
    )
    if source.frames is not None:
        film = None  # the pictures lie beside the recording
    for stream in filter(None, (track, film)):
        stream.codec_context.thread_count = 1  # videos share the cores out already
    start, length = _span(container, track, source, form)
    origin = (container.start_time or 0) / av.time_base
    sound = _Sound(form.sample_rate_hz, start, length)
    pictures = _Pictures(form.image_size, start, length, film is None)
    if start > SPARE_S:
        container.seek(int((origin + start - SPARE_S) * av.time_base))
    for packet in container.demux(*filter(None, (track, film))):
        if packet.stream is track:
            for frame in packet.decode():
                sound.hear(frame, origin)
            if sound.full and (film is None or pictures.full):
                break
        elif not pictures.full:
            with pictures.forgiving():
                for frame in packet.decode():
                    pictures.see(frame, origin)
    sound.finish()
    return sound, pictures


def _is_cover(stream: Any) -> bool:
    """Tell a record's cover from a film."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _span(
    container: Any, track: Any, source: Source, form: Form
) -> tuple[float, float]:
    """Return where the wanted part begins and how long it is, in seconds."""
    total = None
    if track.duration is not None and track.time_base is not None:
        total = float(track.duration * track.time_base)
    elif container.duration is not None:
        total = container.duration / av.time_base
    if form.clip_s is None:
        return 0.0, total if total is not None else float("inf")
    start = 0.0
    if total is not None and total > form.clip_s + SPARE_S:
        if source.start_s is None:
            raise UnreadableError(
                f"lasts {total:.0f} s, expected a clip of {form.clip_s} s, or a file "
                "named by the video's id and a start second in the list"
            )
        start = float(source.start_s)
        if start >= total:
            raise UnreadableError(f"ends at {total:.0f} s, expected second {start:.0f}")
    rest = float("inf") if total is None else total - start
    return start, min(float(form.clip_s), rest)


class _Sound:
    """Collects mono samples of the wanted part at the wanted rate."""

    def __init__(self, rate_hz: int, start: float, length: float) -> None:
        self.rate_hz, self.start, self.length = rate_hz, start, length
        self.full = False
        self._to_float = av.AudioResampler(format="fltp")
        self._stream: soxr.ResampleStream | None = None
        self._heard, self._blocks = 0, [np.zeros(0, np.int16)]
        self._limit, self._decoded_s = length * rate_hz, 0.0

    def hear(self, frame: Any, origin: float) -> None:
        """Take the samples of a decoded frame."""
        time = None if frame.time is None else float(frame.time) - origin
        for part in self._to_float.resample(frame):
            self._take(part.to_ndarray().mean(axis=0), part.sample_rate, time)
            time = None

    def _take(self, mono: np.ndarray, rate: int, time: float | None) -> None:
        if self._stream is None:
            self._stream = soxr.ResampleStream(
                rate, self.rate_hz, 1, dtype="float32", quality="HQ"
            )
            if self.start and time is not None:  # the first frame after a seek
                early = round((self.start - time) * rate)
                if early >= len(mono):
                    self._stream = None
                    return
                mono = mono[max(early, 0) :]
        if not np.isfinite(mono).all():
            raise UnreadableError("its samples are not finite")
        self._decoded_s += len(mono) / rate
        self._keep(self._stream.resample_chunk(np.ascontiguousarray(mono)))

    def _keep(self, block: np.ndarray) -> None:
        samples = np.rint(np.clip(block * 32_768.0, -32_768, 32_767))
        self._blocks.append(samples.astype(np.int16))
        self._heard += len(block)
        self.full = self._heard >= self._limit

    def finish(self) -> None:
        """Empty the filters, and check that the sound did not break off."""
        if self._stream is not None:
            self._keep(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        expected = self.length
        if np.isfinite(expected) and self._decoded_s < COMPLETE * expected:
            raise UnreadableError(
                f"breaks off after {self._decoded_s:.1f} s of {expected:.1f} s"
            )

    def samples(self) -> np.ndarray:
        """Return int16 [T], no longer than was wanted."""
        whole = np.concatenate(self._blocks)
        if np.isfinite(self._limit):
            # A whole recording may be a little longer than its file says.
            return whole[: int(np.ceil(self._limit))]
        return whole


class _Pictures:
    """Picks what is on screen in the middle of each second."""

    def __init__(
        self, size: int, start: float, length: float, without: bool = False
    ) -> None:
        self.size, self.start, self.length = size, start, length
        self.note = "no film: the file has no video stream" if without else ""
        self._shown: Any = None
        self._frames: list[bytes] = []

    @property
    def full(self) -> bool:
        """Whether nothing more is wanted, or can be had."""
        return bool(self.note) or len(self._frames) + 0.5 > self.length

    @contextlib.contextmanager
    def forgiving(self) -> Iterator[None]:
        """Do without pictures where they cannot be decoded."""
        try:
            yield
        except DAMAGE as error:
            self.note = f"pictures: {_reason(error)}"

    def see(self, frame: Any, origin: float) -> None:
        """Take a decoded frame; those before it may turn out to be wanted."""
        if frame.time is None:
            return
        time = float(frame.time) - origin - self.start
        while not self.full and len(self._frames) + 0.5 < time:
            self._pick(self._shown if self._shown is not None else frame)
        self._shown = frame

    def _pick(self, frame: Any) -> None:
        self._frames.append(to_jpeg(frame.to_image(), self.size))

    def frames(self, seconds: float) -> tuple[tuple[bytes, ...], str]:
        """Return the pictures of the seconds that are heard, at least one."""
        if self.note:
            return (), self.note
        if self._shown is None:
            return (), "pictures: nothing could be decoded"
        wanted = max(1, round(min(self.length, seconds)))
        while len(self._frames) < wanted:
            self._pick(self._shown)
        return tuple(self._frames[:wanted]), ""
