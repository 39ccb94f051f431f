"""A mask of one rate on a recording of another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.config import FrontendConfig
from marssep_jax.features import istft, make_frontend, stft
from marssep_jax.transfer import TOP_BAND, make_transfer, plan_windows

CONFIG = FrontendConfig(num_samples=8_192, num_rows=64)
RATES = [8_000, 16_000, 22_050, 44_100, 48_000, 96_000]


def clip(plan, seed=0):
    return jax.random.normal(jax.random.key(seed), (1, plan.length))


@pytest.mark.parametrize("rate", RATES)
def test_windows_last_as_long_at_every_rate(rate):
    plan, model = plan_windows(CONFIG, rate), plan_windows(CONFIG, 16_000)
    assert plan.length == round(8_192 * rate / 16_000)
    assert plan.stride + plan.overlap == plan.length
    # The STFT may last up to 1/8 longer: lengths with small prime factors only.
    assert 1 <= (plan.n_fft / rate) / (model.n_fft / 16_000) < 1.125
    assert plan.n_fft == 4 * plan.hop


@pytest.mark.parametrize("rate", RATES)
def test_mask_of_ones_returns_the_recording(rate):
    transfer = make_transfer(CONFIG, rate)
    waveform = clip(transfer.plan)
    mask = jnp.ones((1, 64, CONFIG.num_frames))
    estimate = transfer.apply(transfer.spread(mask), waveform)
    # Forward and inverse FFT in float32 on samples of order one.
    np.testing.assert_allclose(estimate, waveform, atol=1e-5)


def test_at_the_models_rate_nothing_is_interpolated():
    transfer = make_transfer(CONFIG, 16_000)
    mask = jax.random.uniform(jax.random.key(1), (1, 64, CONFIG.num_frames))
    waveform = clip(transfer.plan)
    gain = make_frontend(CONFIG).from_grid(mask)
    # One jitted, one not: an ulp of numbers below 1.
    np.testing.assert_allclose(transfer.spread(mask), gain, rtol=0, atol=1.2e-7)
    expected = istft(gain * stft(waveform), 8_192)
    # One jitted, one not: float32 rounding only.
    np.testing.assert_allclose(
        transfer.apply(gain, waveform), expected, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_low_pass_mask_cuts_at_the_same_frequency(rate):
    """Rows below 2 kHz pass; tones well below stay, tones well above go."""
    config = FrontendConfig(num_samples=16_384)
    transfer = make_transfer(config, rate)
    frontend = make_frontend(config)
    bins = (np.arange(config.num_bins) * 16_000 / 1_024 < 2_000).astype(np.float32)
    mask = frontend.to_grid(jnp.asarray(bins)[None, :, None].repeat(65, axis=2))
    seconds = np.arange(transfer.plan.length) / rate

    def kept_db(hertz):
        tone = jnp.sin(2 * np.pi * hertz * seconds)[None].astype(jnp.float32)
        left = transfer.apply(transfer.spread(mask), tone)
        return 10 * np.log10(np.mean(np.square(left)) / np.mean(np.square(tone)))

    assert abs(kept_db(1_700)) < 0.2
    assert kept_db(2_400) < -25
    assert kept_db(min(10_000, 0.45 * rate)) < -25  # above the model's Nyquist


@pytest.mark.parametrize("loud", [0.0, 1.0])
def test_band_above_the_models_nyquist_follows_its_top(loud):
    transfer = make_transfer(CONFIG, 48_000)
    mask = jnp.full((1, 64, CONFIG.num_frames), 0.5)
    positions = np.linspace(0, 1, 64)
    share = (np.power(21.0, positions) - 1) / 20  # of the model's Nyquist
    mask = jnp.where((share > TOP_BAND[0] - 0.1)[None, :, None], loud, mask)
    gain = transfer.spread(mask)
    hertz = np.arange(gain.shape[1]) * 48_000 / transfer.plan.n_fft
    np.testing.assert_allclose(gain[:, hertz > 8_000], loud, atol=1e-6)
    np.testing.assert_allclose(gain[:, hertz < 4_000], 0.5, atol=1e-6)


def test_mask_is_read_at_the_same_time():
    """A mask that opens half-way opens half-way at any rate."""
    for rate in RATES:
        transfer = make_transfer(CONFIG, rate)
        opened = np.arange(CONFIG.num_frames) >= CONFIG.num_frames / 2
        mask = jnp.asarray(opened, jnp.float32)[None, None].repeat(64, axis=1)
        gain = np.asarray(transfer.spread(mask))[0, 10]
        seconds = np.arange(gain.size) * transfer.plan.hop / rate
        crossing = seconds[np.argmax(gain >= 0.5)]
        # Frame 16.5 of the model, give or take half a hop of either STFT.
        assert abs(crossing - 16.5 * 256 / 16_000) <= 256 / 16_000 * 1.13


def test_gradient_flows_to_the_mask():
    transfer = make_transfer(CONFIG, 44_100)
    waveform = clip(transfer.plan)

    def energy(mask):
        return jnp.sum(jnp.square(transfer.apply(transfer.spread(mask), waveform)))

    mask = jnp.full((1, 64, CONFIG.num_frames), 0.5)
    slope = jax.grad(energy)(mask)
    # Energy is quadratic in a flat mask: dE = 2 E / mask for a common factor.
    np.testing.assert_allclose(jnp.sum(slope * mask), 2 * energy(mask), rtol=1e-4)
