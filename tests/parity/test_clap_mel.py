"""CLAP's features against the published extractor, where PyTorch is installed."""

import numpy as np
import pytest

from marssep_jax.preprocessing.clap_mel import clap_log_mel_host, quantise_int16
from marssep_jax.preprocessing.clips import clap_windows

pytest.importorskip("torch")  # the extractor refuses to exist without it
transformers = pytest.importorskip("transformers")


def _noise(num_samples):
    return np.random.default_rng(0).standard_normal(num_samples)


@pytest.mark.parametrize(
    ("mode", "scale"), [("rand_trunc", "slaney"), ("fusion", "htk")]
)
def test_clap_equals_transformers(mode, scale):
    extractor = transformers.ClapFeatureExtractor(
        frequency_min=50, frequency_max=14_000, truncation=mode, padding="repeatpad"
    )
    for num_samples in (144_000, 480_000):
        waveform = 0.1 * _noise(num_samples)
        theirs = extractor(
            waveform, sampling_rate=48_000, return_tensors="np"
        ).input_features
        ours = clap_log_mel_host(clap_windows(waveform).samples[0], scale)
        np.testing.assert_allclose(ours, theirs[0, 0], atol=1e-4)


def test_16_bits_are_laion_s():
    waveform = _noise(100_000).astype(np.float32)
    clipped = np.clip(waveform, -1.0, 1.0)
    stored = (clipped * np.float32(32_767)).astype(np.int16)
    expected = (stored / np.float32(32_767)).astype(np.float32)
    np.testing.assert_array_equal(quantise_int16(waveform), expected)
