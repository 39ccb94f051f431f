"""The whole way from samples to ImageBind's audio input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.preprocessing.imagebind_sound import (
    imagebind_sound,
    imagebind_sound_host,
)
from marssep_jax.preprocessing.kaldi import imagebind_log_mel_host

compiled = jax.jit(imagebind_sound, static_argnums=(1, 2))


def test_clips_are_heard_in_order(two_tones, noise):
    # Two seconds each of three sounds, on one channel of two.
    parts = [noise(32_000), two_tones(16_000, 32_000), 0.1 * noise(32_000, seed=1)]
    left = np.concatenate(parts).astype(np.float64)
    stereo = np.stack([left, noise(96_000, seed=2)])
    clips = imagebind_sound_host(stereo, 16_000)
    assert clips.shape == (3, 128, 204)
    for clip, part in zip(clips, parts, strict=True):
        # A frame loses its own mean, so a clip's changes rounding only.
        np.testing.assert_allclose(clip, imagebind_log_mel_host(part), atol=1e-5)


@pytest.mark.parametrize(
    ("rate_hz", "num_samples"), [(11_025, 65_535), (16_000, 40_000), (48_000, 500)]
)
def test_compiled_equals_host(two_tones, noise, rate_hz, num_samples):
    waveform = two_tones(rate_hz, num_samples) + noise(2, num_samples)
    host = np.stack([imagebind_sound_host(row[None], rate_hz) for row in waveform])
    device = compiled(jnp.asarray(waveform, jnp.float32), rate_hz, 3)
    assert device.shape == (2, 3, 128, 204)
    # Above 5.5 kHz a resampled recording holds what the filter lets through; there
    # float32 leaves 1e-7 of the level, seen through a log.
    np.testing.assert_allclose(device, host, atol=5e-3)
    assert np.abs(device - host).mean() < 1e-5
    np.testing.assert_array_equal(device, compiled(waveform, rate_hz, 3))


def test_gradient_reaches_the_waveform(noise):
    def loss(waveform):
        return jnp.sum(imagebind_sound(waveform, 11_025))

    gradient = jax.jit(jax.grad(loss))
    assert np.abs(gradient(noise(30_000))).max() > 0
    np.testing.assert_array_equal(gradient(jnp.zeros(30_000)), np.zeros(30_000))


def test_short_and_empty_recordings():
    assert imagebind_sound_host(np.ones((1, 1)), 44_100).shape == (3, 128, 204)
    with pytest.raises(ValueError, match=r"waveform is float64 \(1, 0\), expected"):
        imagebind_sound_host(np.ones((1, 0)), 44_100)
    with pytest.raises(ValueError, match="num_clips is 0, expected a number above 0"):
        imagebind_sound(jnp.ones(9), 44_100, 0)
