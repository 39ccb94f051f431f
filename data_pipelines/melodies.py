"""The orchestra of the embedded data set and the music it plays.

Every clip is new music from a seed: a random walk on a random scale for pitched
instruments, eight-step patterns for drums.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

FAMILIES = ("strings", "woodwind", "brass", "plucked", "keyboard", "percussion")


class Instrument(NamedTuple):
    """One class of the data set.

    Attributes:
      name: Class name, as it stands in captions.
      family: One of `FAMILIES`.
      programs: General MIDI programs counted from 0, one drawn per clip.
      low: Lowest key.
      high: Highest key.
      chords: Chance that a note is a chord.
      pattern: Keys of a drum pattern; empty for pitched instruments.
    """

    name: str
    family: str
    programs: tuple[int, ...]
    low: int = 0
    high: int = 127
    chords: float = 0.0
    pattern: tuple[int, ...] = ()


INSTRUMENTS = (
    Instrument("accordion", "keyboard", (21,), 53, 86, 0.35),
    Instrument("acoustic guitar", "plucked", (24, 25), 40, 76, 0.35),
    Instrument("cello", "strings", (42,), 36, 67),
    Instrument("clarinet", "woodwind", (71,), 50, 84),
    Instrument("flute", "woodwind", (73,), 60, 93),
    Instrument("saxophone", "woodwind", (64, 65, 66), 49, 80),
    Instrument("trumpet", "brass", (56,), 54, 84),
    Instrument("tuba", "brass", (58,), 28, 55),
    Instrument("violin", "strings", (40,), 55, 93),
    Instrument("xylophone", "percussion", (13,), 65, 96),
    Instrument("bagpipe", "woodwind", (109,), 60, 77),
    Instrument("banjo", "plucked", (105,), 48, 79, 0.25),
    Instrument("bassoon", "woodwind", (70,), 34, 70),
    Instrument("piano", "keyboard", (0, 1), 36, 90, 0.35),
    Instrument("harp", "plucked", (46,), 36, 91, 0.35),
    Instrument("trombone", "brass", (57,), 40, 70),
    Instrument(
        "drum kit",
        "percussion",
        (0,),
        pattern=(36, 36, 38, 38, 42, 42, 42, 46, 45, 47, 50, 49, 51),
    ),
    Instrument("congas", "percussion", (0,), pattern=(62, 63, 63, 64, 64)),
)

TEMPLATES = (
    "{}",
    "the sound of the {}",
    "a recording of the {}",
    "someone plays the {}",
    "{} music",
    "a solo for {}",
    "a melody played on the {}",
    "only the {} can be heard",
)

SCALES = (
    (0, 2, 4, 5, 7, 9, 11),  # major
    (0, 2, 3, 5, 7, 8, 10),  # natural minor
    (0, 2, 3, 5, 7, 9, 10),  # dorian
    (0, 2, 4, 7, 9),  # major pentatonic
    (0, 3, 5, 7, 10),  # minor pentatonic
)
SHORTEST_S, LONGEST_S = 0.09, 1.4
REST_SHARE = 0.12


class Note(NamedTuple):
    """One key pressed and released, times in seconds from the clip's start."""

    start_s: float
    stop_s: float
    key: int
    velocity: int


def compose(
    rng: np.random.Generator, instrument: Instrument, seconds: float
) -> list[Note]:
    """Write music for one clip.

    Args:
      rng: Source of everything random.
      instrument: Who plays.
      seconds: Length of the clip; the last notes may reach beyond it.

    Returns:
      Notes in order of their start, at least one.
    """
    write = _pattern if instrument.pattern else _melody
    while True:
        notes = write(rng, instrument, seconds)
        if notes:
            return notes


def _melody(
    rng: np.random.Generator, instrument: Instrument, seconds: float
) -> list[Note]:
    """Walk at random, up to three steps of a scale at a time."""
    scale, root = SCALES[rng.integers(len(SCALES))], rng.integers(12)
    keys = [
        key
        for key in range(instrument.low, instrument.high + 1)
        if (key - root) % 12 in scale
    ]
    place = int(rng.integers(len(keys)))
    now, notes = float(rng.uniform(0, 0.1)), []
    while now < seconds:
        length = float(np.exp(rng.uniform(np.log(SHORTEST_S), np.log(LONGEST_S))))
        if rng.random() >= REST_SHARE:
            place = int(np.clip(place + rng.integers(-3, 4), 0, len(keys) - 1))
            size = int(rng.integers(2, 4)) if rng.random() < instrument.chords else 1
            velocity = int(rng.integers(60, 118))
            # Every second step of the scale: thirds, as chords are built.
            for key in keys[place : place + 2 * size : 2]:
                notes.append(Note(now, now + length, key, velocity))
        now += length
    return notes


def _pattern(
    rng: np.random.Generator, instrument: Instrument, seconds: float
) -> list[Note]:
    """Repeat eight random steps, now and then struck harder or left out."""
    step_s = float(rng.uniform(0.11, 0.24))
    strikes: list[Iterable[int]] = [
        rng.choice(instrument.pattern, rng.integers(1, 3), replace=False)
        if rng.random() < 0.7
        else []
        for _ in range(8)
    ]
    notes = []
    for number in range(int(seconds / step_s) + 1):
        if rng.random() < 0.1:
            continue
        start = number * step_s
        for key in strikes[number % 8]:
            velocity = int(rng.integers(60, 118))
            notes.append(Note(start, start + step_s, int(key), velocity))
    return notes
