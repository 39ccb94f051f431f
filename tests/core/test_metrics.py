"""SDR and SI-SDR against numbers worked out by hand and their invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marssep_jax.metrics import sdr, sdr_improvement, si_sdr, si_sdr_improvement

METRICS = (sdr, si_sdr)


def _pair(seed=0, shape=(4_000,)):
    rng = np.random.default_rng(seed)
    target = rng.standard_normal(shape).astype(np.float32)
    return jnp.asarray(target), jnp.asarray(rng.standard_normal(shape), jnp.float32)


def _orthogonal():
    """Return a target of power 1 and a noise of power 0.01 orthogonal to it."""
    target = np.tile([1.0, 1.0, -1.0, -1.0], 1_000).astype(np.float32)
    noise = 0.1 * np.tile([1.0, -1.0, -1.0, 1.0], 1_000).astype(np.float32)
    return jnp.asarray(target), jnp.asarray(noise)


@pytest.mark.parametrize("metric", METRICS)
def test_orthogonal_noise_a_tenth_as_large_is_20_db(metric):
    target, noise = _orthogonal()
    np.testing.assert_allclose(metric(target + noise, target), 20.0, atol=1e-4)


def test_half_the_level_costs_sdr_6_db_and_si_sdr_nothing():
    target, noise = _orthogonal()
    # |s|^2 / |s/2|^2 = 4.
    np.testing.assert_allclose(sdr(target / 2, target), 6.0206, atol=1e-3)
    estimate = target + noise
    np.testing.assert_allclose(si_sdr(estimate / 2, target), 20.0, atol=1e-3)


def test_means_are_not_removed():
    target, _ = _orthogonal()
    # An offset of 0.1 is orthogonal to the zero-mean target: noise of power 0.01.
    np.testing.assert_allclose(si_sdr(target + 0.1, target), 20.0, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(
    gain=st.floats(0.05, 20.0),
    sign=st.sampled_from([-1.0, 1.0]),
    level=st.floats(0.01, 3.0),
    seed=st.integers(0, 10),
)
def test_si_sdr_does_not_hear_the_gain(gain, sign, level, seed):
    target, noise = _pair(seed)
    estimate = target + level * noise
    scaled = si_sdr(sign * gain * estimate, target)
    # Energies are in the thousands: the epsilon of 1.2e-7 is out of sight.
    np.testing.assert_allclose(scaled, si_sdr(estimate, target), atol=2e-3)


def test_si_sdr_in_double_follows_the_formula():
    target, noise = (np.asarray(x, np.float64) for x in _pair(3))
    estimate = 0.3 * target + 0.2 * noise
    gain = estimate @ target / (target @ target)
    error = estimate - gain * target
    expected = 10 * np.log10(gain**2 * (target @ target) / (error @ error))
    with jax.enable_x64(True):
        ours = si_sdr(jnp.asarray(estimate), jnp.asarray(target))
        assert ours.dtype == jnp.float64
    np.testing.assert_allclose(ours, expected, atol=1e-9)
    single = si_sdr(
        jnp.asarray(estimate, jnp.float32), jnp.asarray(target, jnp.float32)
    )
    np.testing.assert_allclose(single, expected, atol=1e-3)


def test_improvement_of_the_mixture_over_itself_is_zero():
    target, noise = _pair()
    mixture = target + noise
    estimate = target + 0.1 * noise
    for improvement, metric in (
        (sdr_improvement, sdr),
        (si_sdr_improvement, si_sdr),
    ):
        assert improvement(mixture, target, mixture=mixture) == 0
        gain = improvement(estimate, target, mixture=mixture)
        expected = metric(estimate, target) - metric(mixture, target)
        np.testing.assert_allclose(gain, expected, atol=1e-5)
        # A tenth of the noise: 20 dB, but for its chance correlation with the target.
        np.testing.assert_allclose(gain, 20, atol=0.5)


@pytest.mark.parametrize("metric", METRICS)
def test_batch_axes_are_free_under_jit(metric):
    target, noise = _pair(shape=(2, 3, 500))
    together = jax.jit(metric)(target + noise, target)
    assert together.shape == (2, 3)
    alone = metric((target + noise)[1, 2], target[1, 2])
    np.testing.assert_allclose(together[1, 2], alone, atol=1e-4)


def test_silence_gives_the_documented_values():
    audible, silent = jnp.full(1_000, 0.5), jnp.zeros(1_000)
    # Powers 0.25 and the floor 1e-10: 10 log10(0.25e10) = 93.98.
    np.testing.assert_allclose(sdr(audible, audible), 93.979, atol=1e-2)
    np.testing.assert_allclose(sdr(audible, silent), -93.979, atol=1e-2)
    np.testing.assert_allclose(sdr(silent, audible), 0, atol=1e-4)
    assert sdr(silent, silent) == 0
    np.testing.assert_allclose(si_sdr(silent, audible), 0, atol=1e-4)
    np.testing.assert_allclose(si_sdr(silent, silent), 0, atol=1e-4)
    # Energy 250 over float32's epsilon 1.19e-7: 93.2 dB.
    np.testing.assert_allclose(si_sdr(audible, silent), -93.22, atol=1e-1)


@pytest.mark.parametrize("metric", METRICS)
def test_gradients_stay_finite_on_silence_and_perfection(metric):
    audible, silent = jnp.full(100, 0.5), jnp.zeros(100)
    for estimate in (audible, silent):
        for target in (audible, silent):
            assert np.isfinite(jax.grad(metric)(estimate, target)).all()


def test_si_sdr_gradient_points_uphill():
    target, noise = _pair(1)
    estimate = target + noise
    grad = jax.grad(lambda e: si_sdr(e, target))(estimate)
    step = 1e-3 * estimate.shape[0] * grad
    exact = jnp.vdot(grad, step)
    ahead, behind = si_sdr(estimate + step, target), si_sdr(estimate - step, target)
    assert exact > 0
    # Central difference of a value of size 1 dB over a step worth about 0.1 dB.
    np.testing.assert_allclose((ahead - behind) / 2, exact, rtol=1e-2)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("estimate", "target", "message"),
    [
        (jnp.zeros(3), jnp.zeros(4), r"estimate has shape \(3,\)"),
        (jnp.zeros((1, 4)), jnp.zeros(4), r"estimate has shape \(1, 4\)"),
        (jnp.zeros(0), jnp.zeros(0), "at least one sample"),
        (jnp.zeros(4, int), jnp.zeros(4, int), "expected floating"),
    ],
)
def test_bad_input_is_named(metric, estimate, target, message):
    with pytest.raises(ValueError, match=message):
        metric(estimate, target)
