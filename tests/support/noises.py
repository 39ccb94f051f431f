"""Recordings of noise that tests write, one seed a name."""

import hashlib
import pathlib

import numpy as np
import soundfile

RATE_HZ = 16_000


def noise(name, num_samples, channels=1, peak=8_000):
    """Draw int16 noise [num_samples, channels] that only the name decides."""
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
    rng = np.random.default_rng(seed)
    return rng.integers(-peak, peak + 1, (num_samples, channels), np.int16)


def write_noise(path, num_samples, rate_hz=RATE_HZ, after=0, **form):
    """Write noise as 16-bit wav or flac, ``after`` zeros; return its samples."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.pad(noise(path.stem, num_samples, **form), ((after, 0), (0, 0)))
    soundfile.write(path, samples, rate_hz, subtype="PCM_16")
    return samples
