"""Filter banks against librosa's and by hand."""

import librosa
import numpy as np
import pytest

from marssep_jax.preprocessing.filterbanks import (
    hz_filters,
    hz_to_mel,
    kaldi_filters,
    kaldi_mel,
    mel_to_hz,
)

FREQUENCIES_HZ = np.array([0.0, 50.0, 440.0, 999.0, 1_000.0, 1_001.0, 8_000.0])


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_scales_equal_librosa_and_invert(scale):
    ours = hz_to_mel(FREQUENCIES_HZ, scale)
    theirs = librosa.hz_to_mel(FREQUENCIES_HZ, htk=scale == "htk")
    np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    np.testing.assert_allclose(mel_to_hz(ours, scale), FREQUENCIES_HZ, atol=1e-9)


@pytest.mark.parametrize(("scale", "norm"), [("slaney", "slaney"), ("htk", None)])
def test_filters_equal_librosa(scale, norm):
    ours = hz_filters(64, 48_000, 1_024, 50.0, 14_000.0, scale)
    theirs = librosa.filters.mel(
        sr=48_000,
        n_fft=1_024,
        n_mels=64,
        fmin=50.0,
        fmax=14_000.0,
        htk=scale == "htk",
        norm=norm,
        dtype=np.float64,
    )
    assert ours.shape == (513, 64)
    np.testing.assert_allclose(ours, theirs.T, atol=1e-13)


def test_kaldi_triangle_by_hand():
    # Rates at which 3 triangles share 4 steps of mel between 0 Hz and 8 kHz.
    filters = kaldi_filters(3, 16_000, 512, 0.0)
    step = kaldi_mel(np.array([8_000.0])) / 4
    position = kaldi_mel(np.arange(256) * 31.25) / step
    for row in range(3):
        expected = np.maximum(0.0, 1.0 - np.abs(position - (row + 1)))
        np.testing.assert_allclose(filters[:256, row], expected, atol=1e-12)
    assert (filters[256] == 0).all()


def test_kaldi_filters_at_128_rows_have_the_gaps_that_imagebind_knows():
    seen = (kaldi_filters(128, 16_000, 512, 20.0) > 0).sum(axis=0)
    assert [row for row in range(128) if seen[row] == 0] == [3]
    assert (seen == 1).sum() == 24


@pytest.mark.parametrize("call", [hz_to_mel, mel_to_hz])
def test_unknown_scales_are_named(call):
    with pytest.raises(ValueError, match="scale is 'bark', expected one of slaney, h"):
        call(FREQUENCIES_HZ, "bark")
    with pytest.raises(ValueError, match="scale is 'bark'"):
        hz_filters(64, 48_000, 1_024, 50.0, 14_000.0, "bark")
