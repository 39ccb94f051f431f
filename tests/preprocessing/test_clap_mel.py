"""CLAP's log-mel: golden numbers, librosa, gradients, 16 bits."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from marssep_jax.preprocessing.clap_mel import (
    clap_log_mel,
    clap_log_mel_host,
    quantise_int16,
)
from marssep_jax.preprocessing.clips import clap_windows

SIZE = 480_000

compiled = jax.jit(clap_log_mel, static_argnums=1)


def test_published_front_end_s_numbers(two_tones):
    windows = clap_windows(two_tones(48_000, 144_000))
    log_mel = clap_log_mel_host(windows.samples[0])
    assert log_mel.shape == (1_001, 64)
    assert log_mel.dtype == np.float32
    expected = {
        (0, 0): 4.5731,
        (0, 10): 2.6621,
        (100, 10): -25.6292,
        (100, 40): -96.4453,
        (500, 32): -83.7441,
        (950, 5): -100.0,
        (1_000, 63): -100.0,
    }
    for place, value in expected.items():
        assert log_mel[place] == pytest.approx(value, abs=6e-5)  # 4 digits given
    assert log_mel.mean() == pytest.approx(-71.5574, abs=6e-5)
    assert log_mel.std() == pytest.approx(35.3823, abs=6e-5)


@pytest.mark.parametrize(("scale", "norm"), [("slaney", "slaney"), ("htk", None)])
def test_both_scales_equal_librosa_and_the_host(noise, scale, norm):
    waveform = noise(SIZE)
    host = clap_log_mel_host(waveform, scale)
    power = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=48_000,
        n_fft=1_024,
        hop_length=480,
        pad_mode="reflect",
        n_mels=64,
        fmin=50.0,
        fmax=14_000.0,
        htk=scale == "htk",
        norm=norm,
        dtype=np.float64,
    )
    theirs = librosa.power_to_db(power, amin=1e-10, top_db=None)
    np.testing.assert_allclose(host, theirs.T, atol=1e-5)  # rounded to float32
    # Noise has no quiet bins that a float32 FFT would blur.
    np.testing.assert_allclose(compiled(waveform, scale), host, atol=1e-3)


def test_batches_are_rows_and_short_floats_are_widened(noise):
    waveform = jnp.asarray(noise(2, 1, SIZE), jnp.bfloat16)
    whole = compiled(waveform, "slaney")
    assert whole.shape == (2, 1, 1_001, 64)
    assert whole.dtype == jnp.float32
    alone = compiled(waveform[1, 0].astype(jnp.float32), "slaney")
    np.testing.assert_allclose(whole[1, 0], alone, atol=1e-4)
    np.testing.assert_array_equal(compiled(waveform, "slaney"), whole)


def test_gradient_is_finite_and_silence_has_none(noise):
    gradient = jax.jit(jax.grad(lambda waveform: jnp.mean(clap_log_mel(waveform))))
    np.testing.assert_array_equal(gradient(jnp.zeros(SIZE)), np.zeros(SIZE))
    waveform = noise(SIZE)
    slope = gradient(waveform)
    assert np.isfinite(slope).all()
    # Scaled by 1 + s every bin rises by 20 log10(1 + s) dB.
    assert jnp.vdot(slope, waveform) == pytest.approx(20 / np.log(10), rel=1e-3)


def test_16_bits_by_hand():
    waveform = np.array([0.0, 1.0, 1.5, -2.0, 0.5, -0.5, 1.9 / 32_767], np.float32)
    steps = np.array([0, 32_767, 32_767, -32_767, 16_383, -16_383, 1])
    expected = steps.astype(np.float32) / np.float32(32_767)
    np.testing.assert_array_equal(quantise_int16(waveform), expected)
    device = jax.jit(quantise_int16)(waveform)
    np.testing.assert_allclose(device, expected, rtol=1e-7)
    assert isinstance(device, jax.Array)


@pytest.mark.parametrize("function", [clap_log_mel, clap_log_mel_host])
def test_bad_input_is_named(function):
    xp = jnp if function is clap_log_mel else np
    with pytest.raises(ValueError, match="waveform has 9 samples, expected 480000: 10"):
        function(xp.zeros(9, np.float32))
    with pytest.raises(ValueError, match="scale is 'bark', expected one of slaney, ht"):
        function(xp.zeros(SIZE, np.float32), "bark")
    with pytest.raises(ValueError, match="waveform is int16"):
        function(xp.zeros(SIZE, np.int16))
