"""From notes to samples by a SoundFont synthesiser."""

import pathlib
from typing import Any, Protocol

import numpy as np

from data_pipelines.levels import to_int16
from data_pipelines.melodies import Instrument, Note, compose

OVERSAMPLING = 2
"""The synthesiser interpolates linearly; at twice the rate what it folds back
lies above the band that is kept."""

FADE_SAMPLES = 1_024
"""A voice that is switched off fades for a few milliseconds."""

TUNING = 0.4
"""Clips are out of tune by up to this many semitones either way."""


def _synth_module() -> Any:
    try:
        import tinysoundfont
    except ImportError as error:
        raise ValueError(
            "no renderer for SoundFonts is installed, expected tinysoundfont; get it "
            "by: pip install --no-deps tinysoundfont==0.3.7"
        ) from error
    return tinysoundfont


class Plays(Protocol):
    """What turns notes into samples: a font, or recordings of notes."""

    def play(
        self,
        notes: list[Note],
        program: int,
        num_samples: int,
        *,
        drums: bool = False,
        tuning: float = 0.0,
    ) -> np.ndarray:
        """Render notes to float32 [num_samples]."""
        ...


class Player:
    """One SoundFont, loaded and ready to play.

    Args:
      font: Its file.
      sample_rate_hz: Rate of what is played.
      speed: Playback speed of the samples: pitch and formants move by this
        factor, as on an instrument of another size; the notes' times do not.

    Raises:
      ValueError: no renderer is installed, or it cannot read the font.
    """

    def __init__(
        self, font: pathlib.Path, sample_rate_hz: int, speed: float = 1.0
    ) -> None:
        module = _synth_module()
        self._rate = sample_rate_hz
        rate = round(OVERSAMPLING * sample_rate_hz / speed)
        self._synth = module.Synth(samplerate=rate)
        try:
            self._font = self._synth.sfload(str(font))
        except (module.SoundFontException, RuntimeError, OSError) as error:
            raise ValueError(f"{font} was given, expected a SoundFont") from error

    def play(
        self,
        notes: list[Note],
        program: int,
        num_samples: int,
        *,
        drums: bool = False,
        tuning: float = 0.0,
    ) -> np.ndarray:
        """Render notes.

        Args:
          notes: What to play.
          program: General MIDI program.
          num_samples: Length of the result.
          drums: Whether the keys are drums.
          tuning: Semitones to be out of tune.

        Returns:
          float32 [num_samples], mono, at the sampling rate asked for.
        """
        import soxr

        self._silence()
        self._synth.program_select(0, self._font, 0, program, drums)
        self._synth.set_tuning(0, tuning)
        rate = OVERSAMPLING * self._rate
        end = OVERSAMPLING * num_samples
        events = [(round(n.start_s * rate), 1, n.key, n.velocity) for n in notes]
        events += [(round(n.stop_s * rate), 0, n.key, 0) for n in notes]
        parts, now = [np.zeros(0, np.float32)], 0
        for time, press, key, velocity in sorted(events):
            if time >= end:
                break
            if time > now:
                parts.append(self._advance(time - now))
                now = time
            if press:
                self._synth.noteon(0, key, velocity)
            else:
                self._synth.noteoff(0, key)
        parts.append(self._advance(end - now))
        wave = soxr.resample(np.concatenate(parts), rate, self._rate, quality="HQ")
        return np.asarray(wave[:num_samples], np.float32)

    def _silence(self) -> None:
        """Let what still sounds fade out, so that clips share nothing."""
        self._synth.sounds_off(0)
        while np.any(self._advance(FADE_SAMPLES)):
            pass

    def _advance(self, count: int) -> np.ndarray:
        stereo = np.frombuffer(self._synth.generate(count), np.float32)
        return stereo.reshape(-1, 2).mean(axis=1)


def render_clip(
    player: Plays,
    instrument: Instrument,
    rng: np.random.Generator,
    num_samples: int,
    sample_rate_hz: int,
) -> np.ndarray:
    """Compose and render one clip at the common level.

    Args:
      player: The font to play on.
      instrument: Who plays.
      rng: Source of everything random.
      num_samples: Length of the clip.
      sample_rate_hz: Sampling rate.

    Returns:
      int16 [num_samples].

    Raises:
      ValueError: the font has no sound for this instrument.
    """
    program = int(rng.choice(instrument.programs))
    notes = compose(rng, instrument, num_samples / sample_rate_hz)
    wave = player.play(
        notes,
        program,
        num_samples,
        drums=bool(instrument.pattern),
        tuning=float(rng.uniform(-TUNING, TUNING)),
    )
    try:
        return to_int16(wave)
    except ValueError as error:
        raise ValueError(
            f"the font has no sound for {instrument.name} (program {program}), "
            "expected a General MIDI font"
        ) from error
