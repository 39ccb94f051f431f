"""Rewards against hand-worked numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.rewards import (
    active_mean,
    contrastive_reward,
    cosine_reward,
    group_correlation,
    si_sdr_reward,
    softmax_reward,
    weighted_sum,
)
from marssep_jax.types import Estimate, RewardContext

# Three anchors at 0, 90 and 180 degrees, two estimates of each.
ANCHOR = jnp.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
HEARD = jnp.array(
    [[[[1.0, 0.0], [0.6, 0.8]], [[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]]
)


def context(active=(1.0, 1.0, 1.0), target=None):
    target = jnp.zeros((1, 3, 8)) if target is None else target
    return RewardContext(ANCHOR, target, jnp.array([active]))


def test_cosine_by_hand():
    value = cosine_reward()(Estimate(HEARD, None), context())
    np.testing.assert_allclose(
        value[0], [[1.0, 0.6], [1.0, 0.0], [-1.0, 0.0]], atol=1e-7
    )


def test_cosine_ignores_length_and_survives_zero():
    reward = cosine_reward()
    plain = reward(Estimate(HEARD, None), context())
    scaled = reward(Estimate(7.0 * HEARD, None), context())
    np.testing.assert_allclose(plain, scaled, rtol=1e-6)
    assert not reward(Estimate(0.0 * HEARD, None), context()).any()


def test_contrastive_mean_by_hand():
    # Target 0, mask 0: own 1, others 0 and -1 -> 1 - (-1/2) = 1.5.
    # Target 0, mask 1: own 0.6, others 0.8 and -0.6 -> 0.6 - 0.1 = 0.5.
    value = contrastive_reward()(Estimate(HEARD, None), context())
    np.testing.assert_allclose(value[0, 0], [1.5, 0.5], rtol=1e-6)


def test_contrastive_max_by_hand():
    # Target 0, mask 1: 0.6 - max(0.8, -0.6) = -0.2.
    value = contrastive_reward("max")(Estimate(HEARD, None), context())
    np.testing.assert_allclose(value[0, 0], [1.0, -0.2], atol=1e-6)


@pytest.mark.parametrize("against", ["mean", "max"])
def test_contrastive_leaves_absent_targets_out(against):
    # Target 1 absent: target 0 is held against target 2 alone.
    value = contrastive_reward(against)(Estimate(HEARD, None), context((1.0, 0.0, 1.0)))
    np.testing.assert_allclose(value[0, 0], [2.0, 1.2], rtol=1e-6)


@pytest.mark.parametrize("against", ["mean", "max"])
def test_contrastive_without_others_is_the_cosine(against):
    alone = context((1.0, 0.0, 0.0))
    value = contrastive_reward(against)(Estimate(HEARD, None), alone)
    plain = cosine_reward()(Estimate(HEARD, None), alone)
    np.testing.assert_allclose(value[0, 0], plain[0, 0], atol=1e-7)


def test_contrastive_rejects_other_words():
    with pytest.raises(ValueError, match="against is 'median', expected"):
        contrastive_reward("median")


def softmax_context(label=None, active=(1.0, 1.0)):
    """Anchors of two mixtures at 0, 90, 180 and 270 degrees."""
    anchor = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]])
    active = jnp.stack([jnp.ones(2), jnp.array(active)])
    return RewardContext(anchor, jnp.zeros((2, 2, 8)), active, label=label)


def test_softmax_by_hand():
    # Heard at 0 degrees: cosines 1, 0, -1, 0 with the anchors.
    heard = Estimate(jnp.broadcast_to(jnp.array([1.0, 0.0]), (2, 2, 1, 2)), None)
    t = 0.5
    total = t * np.log(np.exp(1 / t) + 2 + np.exp(-1 / t))
    value = softmax_reward(t)(heard, softmax_context())
    expected = np.array([[1.0, 0.0], [-1.0, 0.0]]) - total
    np.testing.assert_allclose(value[..., 0], expected, rtol=1e-6)


def test_softmax_leaves_out_its_own_class_and_absent_targets():
    heard = Estimate(jnp.broadcast_to(jnp.array([1.0, 0.0]), (2, 2, 1, 2)), None)
    # The target at 90 degrees shares its class with that at 180, 270 is absent.
    label = jnp.array([[0, 1], [1, 2]])
    value = softmax_reward(1.0)(heard, softmax_context(label, (1.0, 0.0)))
    expected = [
        1.0 - np.log(np.exp(1.0) + 1.0 + np.exp(-1.0)),
        0.0 - np.log(1.0 + np.exp(1.0)),
        -1.0 - np.log(np.exp(-1.0) + np.exp(1.0)),
    ]
    np.testing.assert_allclose(value.ravel()[:3], expected, rtol=1e-6)


def test_softmax_is_quiet_far_from_the_others_and_a_difference_near_one():
    cold = softmax_reward(0.01)
    heard = jnp.stack([jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])])
    estimate = Estimate(jnp.broadcast_to(heard, (2, 2, 2, 2)), None)
    value = cold(estimate, softmax_context())
    np.testing.assert_allclose(value[0, 0], [0.0, -1.0], atol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_softmax_checks_its_temperature(temperature):
    with pytest.raises(ValueError, match=r"temperature is .*, expected a number > 0"):
        softmax_reward(temperature)


def test_si_sdr_on_the_grid_is_that_of_magnitudes():
    # Orthogonal error, ten times weaker: 20 dB, whatever the level.
    target = jnp.array([[[[1.0, 1.0], [1.0, 1.0]]]])
    error = jnp.array([[[[0.1, -0.1], [-0.1, 0.1]]]])
    magnitude = jnp.stack([target + error, 3 * (target + error)], axis=2)
    estimate = Estimate(jnp.zeros((1, 1, 2, 2)), None, magnitude)
    known = RewardContext(
        jnp.zeros((1, 1, 2)), jnp.zeros((1, 1, 8)), jnp.ones((1, 1)), target
    )
    value = si_sdr_reward(1.0)(estimate, known)
    np.testing.assert_allclose(value, [[[20.0, 20.0]]], rtol=1e-4)


def test_si_sdr_reward_by_hand():
    # y = s + n with n orthogonal to s and 10 times weaker in amplitude: 20 dB.
    time = np.arange(64) / 64
    tone = np.sin(2 * np.pi * 4 * time)
    noise = 0.1 * np.cos(2 * np.pi * 4 * time)
    target = jnp.zeros((1, 3, 64)).at[0, 0].set(tone).at[0, 1].set(tone)
    waveform = jnp.zeros((1, 3, 2, 64))
    waveform = (
        waveform.at[:, :, 0].set(tone + noise).at[:, :, 1].set(3 * (tone + noise))
    )
    value = si_sdr_reward(0.05)(
        Estimate(HEARD, waveform), context((1.0, 1.0, 0.0), target)
    )
    # 1e-4: float32 energies of 64 samples.
    np.testing.assert_allclose(value[0, :2], np.ones((2, 2)), rtol=1e-4)
    np.testing.assert_array_equal(value[0, 2], [0.0, 0.0])


def test_si_sdr_reward_needs_waveforms_or_magnitudes():
    with pytest.raises(ValueError, match="neither waveform nor magnitude"):
        si_sdr_reward()(Estimate(HEARD, None), context())
    with pytest.raises(ValueError, match="neither waveform nor magnitude"):
        si_sdr_reward()(Estimate(HEARD, None, jnp.ones((1, 3, 2, 4, 4))), context())


def test_weighted_sum_is_linear():
    estimate = Estimate(HEARD, None)
    cosine, contrast = cosine_reward(), contrastive_reward()
    total = weighted_sum({"cosine": (2.0, cosine), "contrast": (-0.5, contrast)})
    expected = 2.0 * cosine(estimate, context()) - 0.5 * contrast(estimate, context())
    np.testing.assert_allclose(total(estimate, context()), expected, rtol=1e-6)


def test_weighted_sum_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="terms is empty"):
        weighted_sum({})


def test_active_mean_counts_only_active():
    value = jnp.array([[2.0, 100.0], [4.0, 6.0]])
    assert active_mean(value, jnp.array([[1.0, 0.0], [1.0, 1.0]])) == 4.0
    assert active_mean(value, jnp.zeros((2, 2))) == 0.0
    assert (
        active_mean(value.at[0, 1].set(jnp.nan), jnp.array([[1.0, 0], [1, 1]])) == 4.0
    )


def test_group_correlation_against_numpy():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 2, 3, 5))
    second = second + 0.7 * first
    # A large offset per prompt must not count.
    first = first + 10 * rng.normal(size=(2, 3, 1))
    active = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    each = [
        np.corrcoef(first[i, j], second[i, j])[0, 1]
        for i, j in zip(*np.nonzero(active), strict=True)
    ]
    got = group_correlation(*(jnp.float32(v) for v in (first, second, active)))
    # float32 centring with offsets near 10.
    np.testing.assert_allclose(got, np.mean(each), atol=1e-5)


def test_group_correlation_of_a_flat_group_is_zero():
    rising = jnp.arange(4.0)[None, None]
    flat = jnp.full((1, 1, 4), 0.9)
    assert group_correlation(rising, flat, jnp.ones((1, 1))) == 0.0
    assert group_correlation(rising, rising, jnp.ones((1, 1))) == pytest.approx(1.0)
