"""Which clips the embedded data set holds, and their rendering."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import numpy as np

from data_pipelines import fonts, melodies, renderer, sampler

VERSION = "1.0.0"
SAMPLE_RATE_HZ = 11_025
NUM_SAMPLES = 36_864
CROP_SAMPLES = 32_767
"""Exactly 128 frames at a hop of 256."""

NOT_UNSEEN = ("harp",)
"""Both fonts seem to hold the same recording of it."""

TRAIN_SPEEDS = (1.0, 0.89, 1.12, 0.94, 1.06)
"""Training clips take turns at these playback speeds, up to two semitones either
way: one font holds one instrument of each kind, and others have other formants."""

RECORDED = "notes"
"""The key of all recorded notes together, beside those of the fonts."""

FONTS = (fonts.TRAIN_FONT.key, fonts.TEST_FONT.key, fonts.SECOND_FONT.key, RECORDED)
"""What can be played on, in the order of its seeds."""

SPLITS = ("train", "validation", "seen", "unseen", "judge_train")

Clips = dict[str, list[tuple[str, int, np.ndarray]]]
"""Per split: clip id, label, int16 samples."""


@dataclasses.dataclass(frozen=True)
class Amounts:
    """How much of everything is made.

    Attributes:
      train: Clips of a class and font.
      validation: Clips of a class.
      test: Clips of a class in ``seen`` and in ``unseen``.
      judge: Clips of a class and font in ``judge_train``.
      views: Training pictures of a class.
      test_mixtures: Mixtures in the manifests of ``seen`` and ``unseen``.
      validation_mixtures: Mixtures in the manifest of ``validation``.
      seed: Seed of all music and pictures.
    """

    train: int = 120
    validation: int = 8
    test: int = 20
    judge: int = 40
    views: int = 160
    test_mixtures: int = 800
    validation_mixtures: int = 96
    seed: int = 18


def captions() -> tuple[str, ...]:
    """Return all captions, eight per class, in class order."""
    return tuple(
        template.format(instrument.name)
        for instrument in melodies.INSTRUMENTS
        for template in melodies.TEMPLATES
    )


def render_splits(
    amounts: Amounts,
    sources: dict[str, pathlib.Path],
    *,
    reduced: bool,
    wide: bool = False,
) -> Clips:
    """Render every split.

    Each split, font, class and number has its own seed, so that sizes may change
    without changing the clips that stay.

    Args:
      amounts: How much is made.
      sources: Paths of the fonts, and of recorded notes, by key.
      reduced: Leave out the test font.
      wide: Let training clips be played on the second font and on recorded notes
        too; the other splits stay as they are.

    Returns:
      The clips of every split.
    """
    train, test, *more = FONTS
    both = [train] if reduced else [train, test]
    wanted = {
        "train": ([train, *(more if wide else ())], amounts.train),
        "validation": ([train], amounts.validation),
        "seen": ([train], amounts.test),
        "unseen": ([test], amounts.test),
        "judge_train": (both, amounts.judge),
    }
    if reduced:
        del wanted["unseen"]
    play = _players(sources)
    clips: Clips = {}
    for split, (keys, count) in wanted.items():
        clips[split] = []
        for label, instrument in enumerate(melodies.INSTRUMENTS):
            if split == "unseen" and instrument.name in NOT_UNSEEN:
                continue
            for key in keys:
                if key == RECORDED and not _is_recorded(instrument):
                    continue
                for number in range(count):
                    turn = number % len(TRAIN_SPEEDS) if split == "train" else 0
                    place = [SPLITS.index(split), FONTS.index(key), label, number]
                    audio = renderer.render_clip(
                        play(key, TRAIN_SPEEDS[turn]),
                        instrument,
                        np.random.default_rng([amounts.seed, *place]),
                        NUM_SAMPLES,
                        SAMPLE_RATE_HZ,
                    )
                    slug = instrument.name.replace(" ", "-")
                    clip_id = f"{split}/{key}/{slug}-{number:03d}"
                    clips[split].append((clip_id, label, audio))
    return clips


def _is_recorded(instrument: melodies.Instrument) -> bool:
    known = {program for programs in fonts.RECORDED_NOTES for program in programs}
    return not instrument.pattern and set(instrument.programs) <= known


def _players(
    sources: dict[str, pathlib.Path],
) -> Callable[[str, float], renderer.Plays]:
    """Return what gives the player of a font at a speed, loading each once."""

    @functools.cache
    def notes() -> dict[int, list[sampler.Recording]]:
        return {
            program: recordings
            for programs, source in fonts.RECORDED_NOTES.items()
            for recordings in [sampler.read_recordings(sources[source.key])]
            for program in programs
        }

    @functools.cache
    def play(key: str, speed: float) -> renderer.Plays:
        if key == RECORDED:
            return sampler.Sampler(notes(), SAMPLE_RATE_HZ, speed)
        return renderer.Player(sources[key], SAMPLE_RATE_HZ, speed)

    return play
