"""Read, write and resample recordings.

The only module besides checkpoints and logs that touches files. soundfile and
soxr are imported where they are used, so the core imports without them. Waveforms
are float32 ``[channels, t]`` in [-1, 1]; nothing is ever normalised or clipped on
the way in.
"""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from marssep_jax.audio_writer import AudioWriter
from marssep_jax.optional import file_name, import_package, reason_of, shown
from marssep_jax.quiet import no_chatter

READABLE = "a readable wav, flac, ogg or mp3 file"
# Outside this range a header is damaged rather than a recording unusual; a window
# of some seconds at 4 GHz, which a wav header can claim, would fill any memory.
RATE_RANGE_HZ = (1_000, 768_000)
BLOCK_SAMPLES = 1 << 18


class AudioInfo(NamedTuple):
    """What a header says. ``num_samples`` is an estimate for mp3."""

    rate_hz: int
    num_channels: int
    num_samples: int
    subtype: str


class AudioReader:
    """An open recording, read block by block.

    Use as a context manager; made by `open_audio`.
    """

    def __init__(self, file: Any, label: str) -> None:
        self._file = file
        self._label = label
        self._is_mp3 = file.format in ("MP3", "MPEG")
        self.info = AudioInfo(
            file.samplerate, file.channels, max(file.frames, 0), file.subtype
        )

    def __enter__(self) -> "AudioReader":
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        with no_chatter() if self._is_mp3 else contextlib.nullcontext():
            self._file.close()

    def blocks(
        self, num_samples: int = BLOCK_SAMPLES
    ) -> Iterator[Float[np.ndarray, "c _"]]:
        """Yield blocks ``[channels, t]`` of at most ``num_samples``.

        Raises:
          ValueError: NaN or infinite samples, no samples at all, damaged data.
        """
        start = 0
        while True:
            try:
                with no_chatter() if self._is_mp3 else contextlib.nullcontext():
                    rows = self._file.read(num_samples, dtype="float32", always_2d=True)
            except RuntimeError as error:
                raise ValueError(
                    f"{self._label}, expected {READABLE} ({reason_of(error)})"
                ) from error
            if not len(rows):
                break
            _require_finite(rows, start, self._label)
            start += len(rows)
            yield np.ascontiguousarray(rows.T)
        if start == 0:
            raise ValueError(f"{self._label}, expected at least one sample")


def _require_finite(rows: np.ndarray, start: int, label: str) -> None:
    bad = ~np.isfinite(rows)
    if bad.any():
        index, channel = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{label}, expected finite samples, but sample {start + index} of "
            f"channel {channel} is {rows[index, channel]}"
        )


class _Lenient:
    """An open file that stays where it is when a damaged header points elsewhere.

    As a descriptor does. An error would be printed with its traceback, as the library's
    callbacks have nowhere to raise it.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self.read, self.readinto, self.tell = file.read, file.readinto, file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        with contextlib.suppress(OSError, ValueError, OverflowError):
            self._file.seek(offset, whence)
        return self._file.tell()


def open_audio(
    path: str | os.PathLike[str] | io.BufferedIOBase, name: str = "path"
) -> AudioReader:
    """Open a recording for reading.

    Args:
      path: file name, or a seekable binary file.
      name: what an error message calls the argument.

    Raises:
      FileNotFoundError, IsADirectoryError: nothing there, or a folder.
      ValueError: not a recording, or a sample rate out of range.
    """
    soundfile = import_package("soundfile", "reading audio")
    label = f"{name} is {shown(path)}"
    if isinstance(path, (str, os.PathLike)):
        if os.path.isdir(path):
            raise IsADirectoryError(f"{label}, expected a file, not a folder")
        if not os.path.exists(path):
            raise FileNotFoundError(f"{label}, expected an existing file")
        if os.path.isfile(path) and os.path.getsize(path) == 0:
            raise ValueError(f"{label}, expected {READABLE} (it is empty)")
        source: Any = file_name(path)
    else:
        source = _Lenient(path)
    try:
        with no_chatter():
            file = soundfile.SoundFile(source)
    except (RuntimeError, TypeError) as error:  # TypeError: a headerless .raw name
        reason = reason_of(error)
        if reason.startswith("File does not exist"):  # it does: half an mp3
            reason = "damaged"
        raise ValueError(f"{label}, expected {READABLE} ({reason})") from error
    low, high = RATE_RANGE_HZ
    if not low <= file.samplerate <= high:
        rate = file.samplerate
        file.close()
        raise ValueError(
            f"{label}, expected a sample rate of {low} to {high} Hz, not {rate}"
        )
    return AudioReader(file, label)


def read_audio(
    path: str | os.PathLike[str] | io.BufferedIOBase, name: str = "path"
) -> tuple[Float[np.ndarray, "c t"], int]:
    """Read a whole recording.

    Returns:
      Waveform ``[channels, t]`` and the sample rate in Hz.

    Raises:
      FileNotFoundError, IsADirectoryError, ValueError: as `open_audio` and
        `AudioReader.blocks`.
    """
    with open_audio(path, name) as reader:
        blocks = list(reader.blocks())
        return np.concatenate(blocks, axis=1), reader.info.rate_hz


def write_audio(
    path: str | os.PathLike[str],
    waveform: Float[np.ndarray, "c t"],
    rate_hz: int,
    subtype: str = "FLOAT",
) -> None:
    """Write ``[channels, t]`` whole or not at all.

    Args:
      path: a name in .wav or .flac.
      waveform: samples.
      rate_hz: sample rate.
      subtype: sample format as libsndfile names it; the nearest that the
        container has is taken.

    Raises:
      ValueError: another ending, or samples that are not finite.
      OSError: the file cannot be written.
    """
    rows = np.atleast_2d(np.asarray(waveform, np.float32))
    with AudioWriter(path, rate_hz, rows.shape[0], subtype, rows.shape[1]) as writer:
        writer.write(rows)


def resample(
    waveform: Float[np.ndarray, "*b t"],
    rate_hz: int,
    new_rate_hz: int,
    num_samples: int | None = None,
) -> Float[np.ndarray, "*b s"]:
    """Resample the last axis with soxr's high quality filter.

    Args:
      waveform: samples ``[..., t]``.
      rate_hz: their rate.
      new_rate_hz: the wanted rate.
      num_samples: wanted length, default ``round(t * new_rate_hz / rate_hz)``;
        missing samples repeat the last one.
    """
    waveform = np.asarray(waveform, np.float32)
    *lead, length = waveform.shape
    wanted = (
        round(length * new_rate_hz / rate_hz) if num_samples is None else num_samples
    )
    if rate_hz == new_rate_hz:
        rows = waveform.reshape(-1, length)
    else:
        soxr = import_package("soxr", "resampling")
        flat = waveform.reshape(-1, length)
        rows = np.stack([soxr.resample(row, rate_hz, new_rate_hz) for row in flat])
    if rows.shape[-1] == 0:
        rows = np.zeros((*rows.shape[:-1], 1), np.float32)
    rows = np.pad(
        rows[:, :wanted], ((0, 0), (0, max(wanted - rows.shape[-1], 0))), mode="edge"
    )
    return rows.reshape(*lead, wanted).astype(np.float32)


class RunningResampler:
    """`resample` of one channel that arrives in pieces; the pieces do not matter."""

    def __init__(self, rate_hz: int, new_rate_hz: int) -> None:
        """Start at the first sample."""
        self._ratio = new_rate_hz / rate_hz
        self._num_in = self._num_out = 0
        self._filter: Any = None
        if rate_hz != new_rate_hz:
            soxr = import_package("soxr", "resampling")
            self._filter = soxr.ResampleStream(rate_hz, new_rate_hz, 1, "float32")

    def push(self, piece: Float[np.ndarray, " _"]) -> Float[np.ndarray, " _"]:
        """Take the next samples and return those that are ready."""
        return self._passed(piece, last=False)

    def finish(self) -> Float[np.ndarray, " _"]:
        """Return the rest; in all there are as many as `resample` returns."""
        rest = self._passed(np.zeros(0, np.float32), last=True)
        wanted = max(round(self._num_in * self._ratio), min(self._num_in, 1))
        missing = wanted - self._num_out
        return np.concatenate([rest, np.zeros(max(missing, 0), np.float32)])

    def _passed(self, piece: np.ndarray, last: bool) -> np.ndarray:
        self._num_in += piece.shape[0]
        ready = np.asarray(piece, np.float32)
        if self._filter is not None:
            ready = self._filter.resample_chunk(ready, last=last)
        self._num_out += ready.shape[0]
        return ready
