"""From notes to samples by recordings of single notes, one set for each instrument."""

import io
import pathlib
import re
import tarfile
from typing import NamedTuple

import numpy as np

from data_pipelines.melodies import Note

OCTAVE = ("C", "Cs", "D", "Ds", "E", "F", "Fs", "G", "Gs", "A", "As", "B")
NAMES = re.compile(r"package/([A-G]s?)(\d)\.mp3")
"""A file is named by its note: As3.mp3 is the A sharp below middle C."""

QUIET = 1e-3
"""A recording begins where it first reaches this share of its peak."""

RELEASE_S = 0.3
"""A note that is released fades to a thousandth in this time."""


class Recording(NamedTuple):
    """One recorded note.

    Attributes:
      key: Its MIDI key.
      wave: float32 [T], mono, at a peak of 1.
      sample_rate_hz: Its rate.
    """

    key: int
    wave: np.ndarray
    sample_rate_hz: int


def read_recordings(path: pathlib.Path) -> list[Recording]:
    """Read a set of recorded notes.

    Args:
      path: A packed npm package of mp3 files that are named by their notes.

    Returns:
      The recordings in order of their keys.

    Raises:
      ValueError: there is no note in it, or one that cannot be read.
    """
    import soundfile

    found = []
    with tarfile.open(path) as archive:
        for member in archive:
            match = NAMES.fullmatch(member.name)
            stream = match and archive.extractfile(member)
            if not match or not stream:
                continue
            key = 12 * (int(match[2]) + 1) + OCTAVE.index(match[1])
            try:
                wave, rate = soundfile.read(
                    io.BytesIO(stream.read()), dtype="float32", always_2d=True
                )
            except soundfile.LibsndfileError as error:
                raise ValueError(
                    f"{member.name} of {path} cannot be read, expected an mp3 file"
                ) from error
            mono = _trimmed(wave.mean(axis=1))
            if not len(mono):
                raise ValueError(f"{member.name} of {path} is silent, expected a note")
            found.append(Recording(key, mono, rate))
    if not found:
        raise ValueError(f"{path} holds no recorded notes, expected some like A3.mp3")
    return sorted(found, key=lambda recording: recording.key)


def _trimmed(wave: np.ndarray) -> np.ndarray:
    """Cut the silence before the note and bring its peak to 1; empty if silent."""
    size = np.abs(wave)
    peak = size.max(initial=0.0)
    return wave[np.argmax(size >= QUIET * peak) :] / peak if peak > 0 else wave[:0]


class Sampler:
    """Plays notes on recordings, each at the speed that gives its pitch.

    Args:
      sets: A set of recordings for each General MIDI program that can be played.
      sample_rate_hz: Rate of what is played.
      speed: Playback speed on top: pitch and formants move by this factor.
    """

    def __init__(
        self,
        sets: dict[int, list[Recording]],
        sample_rate_hz: int,
        speed: float = 1.0,
    ) -> None:
        self._sets, self._rate, self._speed = sets, sample_rate_hz, speed

    def play(
        self,
        notes: list[Note],
        program: int,
        num_samples: int,
        *,
        drums: bool = False,
        tuning: float = 0.0,
    ) -> np.ndarray:
        """Render notes, as `renderer.Player.play` does.

        Raises:
          ValueError: there are no recordings for it.
        """
        if drums or program not in self._sets:
            what = "drums" if drums else f"program {program}"
            raise ValueError(f"{what} cannot be played, expected {sorted(self._sets)}")
        wave = np.zeros(num_samples, np.float32)
        for note in notes:
            start = round(note.start_s * self._rate)
            sound = self._sound(note, program, tuning)[: max(0, num_samples - start)]
            wave[start : start + len(sound)] += sound
        return wave

    def _sound(self, note: Note, program: int, tuning: float) -> np.ndarray:
        import soxr

        recording = min(self._sets[program], key=lambda r: abs(r.key - note.key))
        semitones = note.key + tuning - recording.key
        rate = recording.sample_rate_hz * self._speed * 2.0 ** (semitones / 12)
        held_s = note.stop_s - note.start_s
        needed = int(rate * (held_s + RELEASE_S)) + 1
        sound = soxr.resample(recording.wave[:needed], rate, self._rate, quality="HQ")
        released = np.arange(len(sound)) / self._rate - held_s
        fade = np.exp(-np.log(1e3) / RELEASE_S * np.maximum(released, 0.0))
        return np.asarray(sound * fade * (note.velocity / 127) ** 2, np.float32)
