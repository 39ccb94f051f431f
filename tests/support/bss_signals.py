"""Targets and estimates that BSS-eval is tried on: easy, short, silent, singular."""

import warnings

import mir_eval
import numpy as np
import scipy.signal

NUM_SAMPLES = 8_000


def mix(targets, seed=9, leak=0.2, noise=0.05):
    """Return estimates: short filters of the target, leakage and noise."""
    rng = np.random.default_rng(seed)
    filtered = [
        scipy.signal.lfilter([1, *rng.normal(0, 0.2, 7)], 1, row) for row in targets
    ]
    level = noise * np.std(targets)
    estimates = np.array(filtered) + leak * targets[::-1]
    return estimates + level * rng.standard_normal(targets.shape)


def white(rng):
    return rng.standard_normal((2, NUM_SAMPLES))


def pink(rng):
    return scipy.signal.lfilter([1], [1, -0.98], white(rng))


def notes(rng):
    """Return decaying harmonic notes, rounded to 16 bits."""
    time = np.arange(NUM_SAMPLES) / 16_000
    pitch = np.array([261.6, 391.9])[:, None, None]
    harmonic = np.arange(1, 9)[:, None]
    phase = rng.uniform(0, 2 * np.pi, (2, 8, 1))
    tones = np.sin(2 * np.pi * pitch * harmonic * time + phase) / harmonic
    return np.round(6_000 * tones.sum(axis=1) * np.exp(-3 * time)) / 32_768


def correlated(rng):
    first, other = white(rng)
    return np.stack([first, first + 0.01 * other])


def silent_padded(rng):
    return white(rng) * (np.arange(NUM_SAMPLES) < NUM_SAMPLES // 3)


def short(rng):
    return white(rng)[:, :700]


def lowpassed(rng):
    """Return signals whose upper band is 80 dB down, as resampling leaves it."""
    sections = scipy.signal.butter(8, 0.3, output="sos")
    noise = rng.standard_normal((2, NUM_SAMPLES))
    return scipy.signal.sosfilt(sections, noise) + 1e-4 * white(rng)


def head_padded(rng):
    return white(rng) * (np.arange(NUM_SAMPLES) > NUM_SAMPLES // 2)


def very_short(rng):
    """Return hardly more samples than taps."""
    return white(rng)[:, :520]


def nearly_equal(rng):
    """Return targets that are 80 dB apart from each other: condition 1e8."""
    first, other = white(rng)
    return np.stack([first, first + 1e-4 * other])


def nearly_filtered(rng):
    """Return a second target that is a filter of the first, but for -60 dB."""
    first, other = white(rng)
    filtered = scipy.signal.lfilter([1, 0.5, 0.2], 1, first)
    return np.stack([first, filtered + 1e-3 * other])


def tones(rng):
    """Return two tones over a floor 80 dB below: nearly of rank two."""
    time = np.arange(NUM_SAMPLES) / 16_000
    tones = np.sin(2 * np.pi * np.array([[440.0], [660.0]]) * time)
    return tones + 1e-4 * white(rng)


def in_turn(rng):
    """Return targets of which only one is heard at a time."""
    early = np.arange(NUM_SAMPLES) < NUM_SAMPLES // 2
    return white(rng) * np.stack([early, ~early])


SIGNALS = [
    *(white, pink, notes, silent_padded, head_padded, short, very_short),
    *(correlated, lowpassed, nearly_equal, nearly_filtered, tones, in_turn),
]


def as_mir_eval(estimates, targets, permute=False):
    """Return mir_eval's SDR, SIR, SAR and, where asked, its permutation."""
    with warnings.catch_warnings():
        # mir_eval 0.8 says that 0.9 will be without it.
        warnings.simplefilter("ignore", FutureWarning)
        result = mir_eval.separation.bss_eval_sources(
            targets, estimates, compute_permutation=permute
        )
    return np.stack(result if permute else result[:3])
