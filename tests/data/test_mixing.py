import numpy as np
import pytest

from data_pipelines import mixing
from data_pipelines.mixing import tf

RATE = 11_025


def _noise(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_flat_equaliser_changes_nothing():
    wave = _noise((2, 1_000))
    same = mixing.equalise(wave, np.zeros((2, 6), np.float32), RATE)
    # Forward and inverse FFT of 1024 float32 values: a few ulp of values near 3.
    np.testing.assert_allclose(same, wave, atol=5e-6)


def test_equal_knots_are_a_plain_gain():
    wave = _noise((1, 1_000))
    louder = mixing.equalise(wave, np.full((1, 6), 6.0, np.float32), RATE)
    np.testing.assert_allclose(louder, wave * 10 ** (6 / 20), atol=2e-5)


def test_equaliser_gains_at_knots_are_those_asked_for():
    knots = np.geomspace(mixing.LOWEST_KNOT_HZ, RATE / 2, mixing.NUM_KNOTS)
    wanted = np.array([[3.0, -5.0, 4.0, 0.0, -8.0, 2.0]], np.float32)
    pulse = np.zeros((1, 8_192), np.float32)
    pulse[0, 4_096] = 1.0
    response = np.abs(np.fft.rfft(mixing.equalise(pulse, wanted, RATE).numpy()[0]))
    bins = np.round(knots / (RATE / 2) * 4_096).astype(int)
    # The nearest bin is at most 0.7 Hz off; the curve moves < 0.3 dB over that.
    np.testing.assert_allclose(20 * np.log10(response[bins]), wanted[0], atol=0.3)


def test_equaliser_is_smooth_and_flat_below_the_first_knot():
    basis = mixing.eq_basis(8_192, RATE)
    low = int(mixing.LOWEST_KNOT_HZ / (RATE / 2) * 4_096)
    np.testing.assert_array_equal(basis[:, :low], basis[:, :1].repeat(low, 1))
    # Rows sum to one everywhere: equal knots give a constant (partition of unity).
    np.testing.assert_allclose(basis.sum(0), 1.0, atol=1e-6)


def test_source_has_the_level_of_its_gain_whatever_the_clip():
    clips = np.stack([np.full(512, 30), 3_000 * np.sign(_noise(512))]).astype(np.int16)
    made = mixing.source(clips, np.array([0.0, -5.0], np.float32), None, RATE)
    level = 20 * np.log10(np.sqrt(np.mean(made.numpy() ** 2, -1)))
    np.testing.assert_allclose(level, [-20.0, -25.0], atol=1e-4)  # float32


def test_silence_stays_silence():
    made = mixing.source(
        np.zeros((1, 64), np.int16), np.zeros(1, np.float32), None, RATE
    )
    np.testing.assert_array_equal(made, 0.0)


def test_mix_is_the_sum_over_sources():
    sources = _noise((2, 3, 16))
    np.testing.assert_allclose(mixing.mix(sources), sources.sum(1), atol=1e-6)


@pytest.mark.parametrize("reach", [0, 3])
def test_offsets_cover_their_range_ends_included(reach):
    seed = tf.constant([1, 2], tf.int64)
    drawn = mixing.draw_offset(seed, (500,), reach).numpy()
    assert set(drawn.tolist()) == set(range(reach + 1))


def test_draws_depend_on_seed_and_stream_only():
    seed = tf.constant([1, 2], tf.int64)
    first = mixing.uniform(mixing.fold_in(seed, 1), (4,), -5.0, 5.0).numpy()
    again = mixing.uniform(mixing.fold_in(seed, 1), (4,), -5.0, 5.0).numpy()
    other = mixing.uniform(mixing.fold_in(seed, 2), (4,), -5.0, 5.0).numpy()
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert (np.abs(first) <= 5).all()
