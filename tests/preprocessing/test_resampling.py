"""Resampling against its formula computed another way, and as an operator."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from marssep_jax.preprocessing.resampling import resample_sinc, resample_sinc_host

compiled = jax.jit(resample_sinc, static_argnums=(1, 2))
RATES = [
    (11_025, 16_000),
    (16_000, 11_025),
    (44_100, 16_000),
    (48_000, 16_000),
    (16_000, 48_000),
    (8_000, 16_000),
    (44_100, 48_000),
    (1_009, 1_013),  # primes: one period is longer than the signal
]


def by_zero_stuffing(waveform, rate_hz, new_rate_hz):
    """Resample by one long filter at the rates' common multiple."""
    divisor = math.gcd(rate_hz, new_rate_hz)
    old, new = rate_hz // divisor, new_rate_hz // divisor
    band = 0.99 * min(old, new)
    reach = math.ceil(6 * old * new / band)
    u = np.arange(-reach, reach + 1) / (old * new) * band
    kernel = np.where(np.abs(u) <= 6, np.sinc(u) * np.cos(np.pi * u / 12) ** 2, 0.0)
    # The centre of the filter must fall on an output sample.
    lead = -reach % old
    kernel = np.pad(kernel * band / old, (lead, 0))
    filtered = scipy.signal.upfirdn(kernel, waveform, new, old)
    start = (reach + lead) // old
    wanted = math.ceil(len(waveform) * new / old)
    return filtered[start : start + wanted]


def test_published_numbers(two_tones):
    resampled = resample_sinc_host(two_tones(16_000, 32_000), 16_000, 11_025)
    assert resampled.shape == (22_050,)
    places = [0, 1, 2, 100, 5_000, 22_049]
    expected = [0.017212, 0.169231, 0.119117, 0.079813, -0.113777, -0.169231]
    np.testing.assert_allclose(resampled[places], expected, atol=1e-6)


@pytest.mark.parametrize(("rate_hz", "new_rate_hz"), RATES)
def test_equals_one_long_filter(noise, rate_hz, new_rate_hz):
    waveform = noise(997).astype(np.float64)
    ours = resample_sinc_host(waveform, rate_hz, new_rate_hz)
    theirs = by_zero_stuffing(waveform, rate_hz, new_rate_hz)
    np.testing.assert_allclose(ours, theirs, atol=1e-13)


@pytest.mark.parametrize(("rate_hz", "new_rate_hz"), RATES[:5])
def test_compiled_equals_host(noise, rate_hz, new_rate_hz):
    waveform = noise(2, 3, 997)
    ours = compiled(waveform, rate_hz, new_rate_hz)
    assert ours.dtype == jnp.float32
    # Sums of some tens of float32 products at level 0.1.
    np.testing.assert_allclose(
        ours, resample_sinc_host(waveform, rate_hz, new_rate_hz), atol=3e-7
    )


def test_tone_keeps_level_and_phase():
    time = np.arange(11_025) / 11_025
    resampled = resample_sinc_host(np.sin(2 * np.pi * 440 * time), 11_025, 16_000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    # Six zero crossings leave 0.1 % of pass-band ripple; the ends see zeros.
    np.testing.assert_allclose(resampled[50:-50], expected[50:-50], atol=2e-3)


def test_what_the_new_rate_cannot_hold_is_gone():
    time = np.arange(16_000) / 16_000
    resampled = resample_sinc_host(np.sin(2 * np.pi * 7_000 * time), 16_000, 11_025)
    assert np.abs(resampled[50:-50]).max() < 2e-3


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    length=st.integers(1, 300),
    rate_hz=st.integers(1, 700),
    new_rate_hz=st.integers(1, 700),
)
def test_any_rates_and_lengths(length, rate_hz, new_rate_hz):
    waveform = np.random.default_rng(length).standard_normal(length)
    resampled = resample_sinc_host(waveform, rate_hz, new_rate_hz)
    assert resampled.shape == (math.ceil(length * new_rate_hz / rate_hz),)
    if rate_hz == new_rate_hz:
        np.testing.assert_array_equal(resampled, waveform)
    else:
        theirs = by_zero_stuffing(waveform, rate_hz, new_rate_hz)
        np.testing.assert_allclose(resampled, theirs, atol=1e-12)


def test_gradient_is_the_transpose(noise):
    waveform, weight = jnp.asarray(noise(441)), jnp.asarray(noise(640, seed=1))
    out, pull = jax.vjp(lambda w: compiled(w, 11_025, 16_000), waveform)
    (back,) = pull(weight)
    np.testing.assert_allclose(
        jnp.vdot(out, weight), jnp.vdot(waveform, back), rtol=1e-5
    )


def test_same_input_gives_the_same_bits(noise):
    waveform = noise(2, 5_000)
    first, second = (compiled(waveform, 11_025, 16_000) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_short_floats_are_widened(noise):
    waveform = jnp.asarray(noise(500), jnp.bfloat16)
    for rates in ((11_025, 16_000), (16_000, 16_000)):
        resampled = compiled(waveform, *rates)
        assert resampled.dtype == jnp.float32
        wide = compiled(waveform.astype(jnp.float32), *rates)
        np.testing.assert_array_equal(resampled, wide)


@pytest.mark.parametrize("function", [resample_sinc, resample_sinc_host])
def test_bad_input_is_named(function):
    xp = jnp if function is resample_sinc else np
    with pytest.raises(ValueError, match="rate_hz is 0, expected a whole number above"):
        function(xp.zeros(9, np.float32), 0, 16_000)
    with pytest.raises(ValueError, match=r"new_rate_hz is 0\.5, expected a whole num"):
        function(xp.zeros(9, np.float32), 16_000, 0.5)
    with pytest.raises(ValueError, match=r"waveform is float32 \(0,\), expected float"):
        function(xp.zeros(0, np.float32), 16_000, 8_000)
