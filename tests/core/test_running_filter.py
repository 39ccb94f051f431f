"""A filter that runs along a recording, against one transform of the whole."""

import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.config import FrontendConfig
from marssep_jax.features import istft, stft
from marssep_jax.running_filter import RunningFilter
from marssep_jax.transfer import make_transfer, read_columns

CONFIG = FrontendConfig(num_samples=4_096, num_rows=32)


def at_once(transfer, recording, mask):
    n_fft, hop = transfer.plan.n_fft, transfer.plan.hop
    frames = np.arange(1 + recording.shape[1] // hop)
    columns = read_columns(mask, transfer.plan.columns_of(frames))
    gain = transfer.spread(jnp.asarray(columns[None]))
    spectrum = stft(jnp.asarray(recording), n_fft, hop)
    return istft(gain * spectrum, recording.shape[1], n_fft, hop)


@pytest.mark.parametrize(
    ("rate", "num_samples", "num_frames"),
    [(16_000, 1, 13), (16_000, 12_345, 1), (44_100, 300, 13), (44_100, 40_000, 13)],
)
def test_equals_one_transform_of_the_whole(rate, num_samples, num_frames):
    transfer = make_transfer(CONFIG, rate)
    generator = np.random.default_rng(num_samples)
    recording = generator.normal(size=(2, num_samples)).astype(np.float32)
    width = 1 + num_samples * 16_000 // rate // 256
    mask = generator.uniform(size=(32, width)).astype(np.float32)
    running = RunningFilter(transfer, num_frames)
    parts, taken = [], 0
    for column in range(width):
        # Sound arrives before its mask, in pieces of any length.
        wanted = min(num_samples, (column + 4) * 700)
        if wanted > taken:
            running.take(recording[:, taken:wanted])
            taken = wanted
        parts += running.push(mask[:, column : column + 1])
    if taken < num_samples:
        running.take(recording[:, taken:])
    parts += running.finish()
    mixture = np.concatenate([part.mixture for part in parts], axis=1)
    estimate = np.concatenate([part.estimate for part in parts], axis=1)
    np.testing.assert_array_equal(mixture, recording)
    # FFTs in float32 of samples of order one.
    expected = at_once(transfer, recording, mask)
    np.testing.assert_allclose(estimate, expected, atol=5e-6)


def test_nothing_of_nothing():
    running = RunningFilter(make_transfer(CONFIG, 16_000), 13)
    assert list(running.finish()) == []
