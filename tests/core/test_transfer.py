"""A mask of one rate on a recording of another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.config import FrontendConfig
from marssep_jax.features import istft, make_frontend, stft, window_envelope
from marssep_jax.transfer import TOP_BAND, make_transfer, plan_windows, read_columns

CONFIG = FrontendConfig(num_samples=8_192, num_rows=64)
RATES = [8_000, 16_000, 22_050, 44_100, 48_000, 96_000]


def clip(rate, seed=0):
    num_samples = round(8_192 * rate / 16_000)
    return jax.random.normal(jax.random.key(seed), (1, num_samples))


def spread(transfer, mask, num_samples):
    """Return the gain of a window's mask on the recording's STFT."""
    frames = np.arange(1 + num_samples // transfer.plan.hop)
    columns = read_columns(np.asarray(mask[0]), transfer.plan.columns_of(frames))
    return transfer.spread(jnp.asarray(columns[None]))


def filtered(transfer, mask, waveform):
    """Return a whole recording filtered at once."""
    n_fft, hop = transfer.plan.n_fft, transfer.plan.hop
    gain = spread(transfer, mask, waveform.shape[-1])
    return istft(gain * stft(waveform, n_fft, hop), waveform.shape[-1], n_fft, hop)


@pytest.mark.parametrize("rate", RATES)
def test_frames_last_about_as_long_at_every_rate(rate):
    plan, model = plan_windows(CONFIG, rate), plan_windows(CONFIG, 16_000)
    # The STFT may last up to 1/8 longer: lengths with small prime factors only.
    assert 1 <= (plan.n_fft / rate) / (model.n_fft / 16_000) < 1.125
    assert plan.n_fft == 4 * plan.hop
    assert plan[5:] == model[5:] == (8_192, 25 * 256, 25, 8)
    # A step of frames lies within the columns that a window adds, and fills them.
    first, last = plan.columns_of(np.array([0, plan.step_frames]))
    assert 0 == first < last <= 25 < plan.columns_of(plan.step_frames + 1)


def test_frames_and_columns_do_not_drift():
    plan = plan_windows(CONFIG, 44_100)
    frames = 100_000_000  # some 20 days
    seconds = frames * plan.hop / 44_100
    assert abs(plan.columns_of(frames) * 256 / 16_000 - seconds) < 1e-6


@pytest.mark.parametrize("rate", RATES)
def test_mask_of_ones_returns_the_recording(rate):
    transfer, waveform = make_transfer(CONFIG, rate), clip(rate)
    mask = jnp.ones((1, 64, CONFIG.num_frames))
    estimate = filtered(transfer, mask, waveform)
    # Forward and inverse FFT in float32 on samples of order one.
    np.testing.assert_allclose(estimate, waveform, atol=1e-5)


def test_at_the_models_rate_nothing_is_interpolated():
    transfer = make_transfer(CONFIG, 16_000)
    mask = jax.random.uniform(jax.random.key(1), (1, 64, CONFIG.num_frames))
    gain = make_frontend(CONFIG).from_grid(mask)
    # One jitted, one not: an ulp of numbers below 1.
    np.testing.assert_allclose(spread(transfer, mask, 8_192), gain, rtol=0, atol=1.2e-7)


def test_frames_are_filtered_and_added_up():
    transfer = make_transfer(CONFIG, 16_000)
    waveform = clip(16_000)[:, :7_000]
    gain = jax.random.uniform(jax.random.key(1), (1, 513, 28))
    found = transfer.apply(gain, jnp.pad(waveform, ((0, 0), (512, 424))))
    expected = istft(gain * stft(waveform), 7_000)
    weight = window_envelope(28, 1_024, 256)[512:7_512]
    np.testing.assert_allclose(found[0, 512:7_512] / weight, expected[0], atol=1e-5)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
def test_low_pass_mask_cuts_at_the_same_frequency(rate):
    """Rows below 2 kHz pass; tones well below stay, tones well above go."""
    config = FrontendConfig(num_samples=16_384)
    transfer = make_transfer(config, rate)
    frontend = make_frontend(config)
    bins = (np.arange(config.num_bins) * 16_000 / 1_024 < 2_000).astype(np.float32)
    mask = frontend.to_grid(jnp.asarray(bins)[None, :, None].repeat(65, axis=2))
    seconds = np.arange(round(16_384 * rate / 16_000)) / rate

    def kept_db(hertz):
        tone = jnp.sin(2 * np.pi * hertz * seconds)[None].astype(jnp.float32)
        left = filtered(transfer, mask, tone)
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
        gain = np.asarray(spread(transfer, mask, clip(rate).shape[1]))[0, 10]
        seconds = np.arange(gain.size) * transfer.plan.hop / rate
        crossing = seconds[np.argmax(gain >= 0.5)]
        # Frame 16.5 of the model, give or take half a hop of either STFT.
        assert abs(crossing - 16.5 * 256 / 16_000) <= 256 / 16_000 * 1.13
