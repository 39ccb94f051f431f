"""Mask targets, weights and cross-entropy against hand-worked numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.config import FrontendConfig
from marssep_jax.features import make_frontend
from marssep_jax.objectives import (
    analyse_scene,
    binary_cross_entropy,
    binary_mask_target,
    loudness_weight,
    make_supervised_objective,
    ratio_mask_target,
)

FRONTEND = make_frontend(
    FrontendConfig(
        sample_rate_hz=8_000, num_samples=1_023, n_fft=256, hop=64, num_rows=32
    )
)


def waveforms(seed=0, absent=False):
    target = 0.1 * np.random.default_rng(seed).standard_normal((2, 3, 1_023))
    if absent:
        target[:, 2] = 0.0
    return jnp.asarray(target, jnp.float32)


def test_ratio_target_shares_every_bin():
    # One bin each: 3 and 1 -> 3/4, 1/4; with an absent third source -> 0.
    magnitude = jnp.array([3.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(
        ratio_mask_target(magnitude).ravel(), [0.75, 0.25, 0.0], rtol=1e-7
    )


def test_ratio_target_of_silence_is_zero():
    share = ratio_mask_target(jnp.zeros((1, 2, 3, 4)))
    np.testing.assert_array_equal(share, np.zeros((1, 2, 3, 4)))


def test_binary_target_needs_more_than_half():
    # |X| = 2: the threshold is (2 + 1e-10) / 2, so 1 loses and 1.001 wins.
    magnitude = jnp.array([1.0, 1.001, 0.0]).reshape(1, 3, 1, 1)
    won = binary_mask_target(magnitude, jnp.full((1, 1, 1), 2.0))
    np.testing.assert_array_equal(won.ravel(), [0.0, 1.0, 0.0])


def test_binary_target_gives_digital_silence_to_nobody():
    won = binary_mask_target(jnp.zeros((1, 2, 1, 1)), jnp.zeros((1, 1, 1)))
    np.testing.assert_array_equal(won, np.zeros((1, 2, 1, 1)))


def test_loudness_weight_and_its_ends():
    # ln(1 + 0) = 0 -> 1e-3; ln(1 + e - 1) = 1; ln(1 + 1e6) = 13.8 -> 10.
    magnitude = jnp.array([0.0, np.e - 1, 1e6]).reshape(1, 1, 3)
    np.testing.assert_allclose(
        loudness_weight(magnitude).ravel(), [1e-3, 1.0, 10.0], rtol=1e-6
    )


def test_cross_entropy_by_definition():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 3, 4, 5)) * 3
    wanted = rng.uniform(size=logits.shape)
    weight = rng.uniform(size=(2, 4, 5))
    proposal = 1 / (1 + np.exp(-logits))
    terms = -(wanted * np.log(proposal) + (1 - wanted) * np.log(1 - proposal))
    expected = np.mean(weight[:, None] * terms)
    got = binary_cross_entropy(*(jnp.float32(v) for v in (logits, wanted, weight)))
    # float32 sum of 120 terms of order 1.
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("logit", [-200.0, 200.0])
@pytest.mark.parametrize("wanted", [0.0, 1.0])
def test_cross_entropy_at_saturation(logit, wanted):
    shape = (1, 1, 1, 1)

    def loss(value):
        return binary_cross_entropy(
            jnp.full(shape, value), jnp.full(shape, wanted), jnp.ones((1, 1, 1))
        )

    value, slope = jax.value_and_grad(loss)(logit)
    right = (logit > 0) == (wanted > 0)
    # Right: 0. Wrong: |z|, with the slope of a full step towards the target.
    assert value == pytest.approx(0.0 if right else 200.0, abs=1e-6)
    assert slope == pytest.approx(0.0 if right else np.sign(logit), abs=1e-6)


def test_scene_is_the_analysis_of_the_mixture():
    target = waveforms()
    scene = analyse_scene(FRONTEND, target)
    whole = FRONTEND.analyse(target.sum(1))
    # float32 STFT of three summed sources; magnitudes are of order 1.
    np.testing.assert_allclose(scene.features.stft, whole.stft, atol=2e-6)
    np.testing.assert_allclose(
        scene.features.grid_magnitude, whole.grid_magnitude, atol=2e-6
    )
    first = FRONTEND.analyse(target[:, 0]).grid_magnitude
    np.testing.assert_allclose(scene.target_magnitude[:, 0], first, atol=2e-6)


def test_scene_keeps_an_absent_target_at_zero():
    scene = analyse_scene(FRONTEND, waveforms(absent=True))
    assert not scene.target_magnitude[:, 2].any()


def test_objective_is_stationary_at_its_target():
    scene = analyse_scene(FRONTEND, waveforms())
    wanted = ratio_mask_target(scene.target_magnitude)
    objective = make_supervised_objective()
    at_target = jax.scipy.special.logit(wanted)
    (best, metrics), slope = jax.value_and_grad(objective, has_aux=True)(
        at_target, scene
    )
    # sigma(logit(m)) - m is float32 rounding, divided by 2 * 3 * 32 * 16 bins.
    np.testing.assert_allclose(slope, jnp.zeros_like(slope), atol=1e-9)
    assert metrics["supervised/mask_error"] < 1e-6
    worse, _ = objective(at_target + 0.5, scene)
    assert worse > best


def test_objective_silences_an_absent_target():
    scene = analyse_scene(FRONTEND, waveforms(absent=True))
    for mask_target in (ratio_mask_target, binary_mask_target):
        objective = make_supervised_objective(mask_target)
        slope = jax.grad(lambda z, f=objective: f(z, scene)[0])(
            jnp.zeros((2, 3, 32, 16))
        )
        assert bool(jnp.all(slope[:, 2] > 0))  # descending lowers the mask


def test_objective_weighs_loud_bins_more():
    scene = analyse_scene(FRONTEND, waveforms())
    slope = jax.grad(lambda z: make_supervised_objective()(z, scene)[0])(
        jnp.full((2, 3, 32, 16), 5.0)
    )
    wanted = ratio_mask_target(scene.target_magnitude)
    per_unit = slope / (jax.nn.sigmoid(5.0) - wanted)
    magnitude = jnp.broadcast_to(scene.features.grid_magnitude[:, None], slope.shape)
    expected = jnp.clip(jnp.log1p(magnitude), 1e-3, 10.0) / slope.size
    np.testing.assert_allclose(per_unit, expected, rtol=1e-2)
