"""Signals with known features."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def two_tones():
    """Return 0.3 sin(2 pi 440 t) + 0.1 sin(2 pi 3000 t) in float64."""

    def make(rate_hz, num_samples):
        turns = 2 * np.pi * np.arange(num_samples) / rate_hz
        return 0.3 * np.sin(440 * turns) + 0.1 * np.sin(3_000 * turns)

    return make


@pytest.fixture(scope="session")
def noise():
    """Return 0.1 times normal noise in float32."""

    def make(*shape, seed=0):
        values = np.random.default_rng(seed).standard_normal(shape)
        return (0.1 * values).astype(np.float32)

    return make
