"""Every estimator's gradient against the exact one, through the real parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from marssep_jax.advantages import leave_one_out_advantage, leave_pair_out_advantage
from marssep_jax.estimators import (
    control_variate_estimator,
    hybrid_estimator,
    pathwise_estimator,
    score_estimator,
)
from marssep_jax.objectives import Scene
from marssep_jax.policy import beta_policy, patch_beta_policy
from marssep_jax.rollout import make_rollout
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.types import Estimate, Features, RewardContext
from marssep_jax.update.policy_loss import Coefficients, Lesson, make_policy_loss

KAPPA, GROUP, BATCHES = 9.0, 256, 1_000
LOGITS = jnp.array([-1.0, 0.8]).reshape(1, 1, 1, 2)
COUPLING = 0.5
NONE = Coefficients(0.0, 0.0, 0.0, 0.0)
INDEPENDENT = beta_policy(KAPPA)
CENTRED = leave_one_out_advantage(scaled=False)


def score(mask):
    """Score two bins by a polynomial, so that its mean is known exactly."""
    first, second = mask[..., 0], mask[..., 1]
    return first**2 - second + COUPLING * first * second


def exact(logits):
    """E[score] from the moments of Beta(1 + kP, 1 + k(1 - P))."""
    proposal = jax.nn.sigmoid(logits).ravel()
    alpha, total = 1 + KAPPA * proposal, 2 + KAPPA
    mean = alpha / total
    square = mean * (alpha + 1) / (total + 1)
    return square[0] - mean[1] + COUPLING * mean[0] * mean[1]


EXACT = np.asarray(jax.grad(exact)(LOGITS)).ravel()


def lesson_of(key, policy, estimator, advantage):
    blank = jnp.zeros((1, 1, 2))
    features = Features(blank.astype(jnp.complex64), blank, blank)
    context = RewardContext(
        jnp.zeros((1, 1, 2)), jnp.zeros((1, 1, 1)), jnp.ones((1, 1))
    )
    rollout = make_rollout(
        policy,
        lambda mask, _: Estimate(mask[..., 0, :], None),
        lambda estimate, _: score(estimate.embedding),
        advantage,
        GROUP,
        estimator,
    )
    drawn, _, _ = rollout(key, jax.nn.sigmoid(LOGITS), features, context, ())
    return Lesson(drawn, None, jnp.ones((1, 1)), Scene(features, blank[:, None]))


def gradients(policy, estimator, advantage=CENTRED, level="bin", batches=BATCHES):
    """Return estimates [batches, 2] of the gradient by the two logits."""
    loss = make_policy_loss(policy, clipped_surrogate(0.2, level), NONE, None)

    def estimate(key):
        lesson = lesson_of(key, policy, estimator, advantage)
        slope, _ = jax.grad(loss, argnums=1, has_aux=True)(lesson, LOGITS)
        return -slope

    keys = jax.random.split(jax.random.key(0), batches)
    return np.asarray(jax.jit(jax.vmap(estimate))(keys)).reshape(batches, 2)


def check(samples, expected):
    error = samples.std(axis=0) / len(samples) ** 0.5
    assert (error < 0.03 * np.abs(expected)).all()  # the test has power
    assert (np.abs(samples.mean(axis=0) - expected) < 4 * error).all()


@pytest.mark.parametrize("level", ["bin", "mask", "joint"])
def test_score_function_gradient_is_the_exact_gradient(level):
    samples = gradients(INDEPENDENT, score_estimator(GROUP), level=level)
    # At ratio 1 the levels differ by a factor: bin and mask average over bins.
    check(samples * (1 if level == "joint" else 2), EXACT)


def test_antithetic_gradient_is_the_exact_gradient():
    twins = score_estimator(GROUP, antithetic=True)
    samples = gradients(INDEPENDENT, twins, leave_pair_out_advantage(scaled=False))
    check(samples * 2, EXACT)


@pytest.mark.parametrize(
    "estimator",
    [
        control_variate_estimator(GROUP),
        pathwise_estimator(GROUP),
        hybrid_estimator(GROUP, 0.3),
    ],
    ids=["control variate", "pathwise", "hybrid"],
)
@pytest.mark.parametrize("level", ["bin", "mask"])
def test_gradients_with_a_slope_are_exact_and_in_units_of_the_reward(estimator, level):
    check(gradients(INDEPENDENT, estimator, level=level), EXACT)


def test_variance_shrinks_from_score_to_control_variate_to_path():
    spread = [
        gradients(INDEPENDENT, estimator, batches=200).std(axis=0) * factor
        for estimator, factor in (
            (score_estimator(GROUP), 2),
            (control_variate_estimator(GROUP), 1),
            (pathwise_estimator(GROUP), 1),
        )
    ]
    assert (spread[1] < 0.7 * spread[0]).all()
    assert (spread[2] < spread[1]).all()


def shared_noise(proposal, count=20_000):
    """E[score] where both bins are quantiles of one uniform, by the midpoint rule."""
    u = (np.arange(count) + 0.5) / count
    mask = [stats.beta(1 + KAPPA * p, 1 + KAPPA * (1 - p)).ppf(u) for p in proposal]
    return score(np.stack(mask, axis=-1)).mean()


def slope_of(function):
    """Differentiate a function of two proposals by the logits, by differences."""
    logits, step = np.asarray(LOGITS, np.float64).ravel(), 1e-3
    sides = [[], []]
    for side, sign in zip(sides, (1, -1), strict=True):
        for axis in np.eye(2):
            side.append(function(1 / (1 + np.exp(-(logits + sign * step * axis)))))
    return (np.asarray(sides[0]) - np.asarray(sides[1])) / (2 * step)


def test_path_is_exact_for_shared_noise_and_the_score_is_not():
    shared = beta_policy(KAPPA, noise_patch=(1, 2))
    expected = slope_of(shared_noise)
    check(gradients(shared, pathwise_estimator(GROUP)), expected)
    biased = gradients(shared, score_estimator(GROUP)) * 2
    error = biased.std(axis=0) / BATCHES**0.5
    assert (np.abs(biased.mean(axis=0) - expected) > 4 * error).any()


@pytest.mark.parametrize(
    ("estimator", "level", "factor"),
    [
        (score_estimator(GROUP), "joint", 1),
        (control_variate_estimator(GROUP), "bin", 1),
        (pathwise_estimator(GROUP), "bin", 1),
    ],
    ids=["score", "control variate", "pathwise"],
)
def test_gradients_of_one_variate_per_patch(estimator, level, factor):
    def one_variate(proposal):
        return shared_noise([np.mean(proposal)] * 2)

    policy = patch_beta_policy(KAPPA, (1, 2))
    samples = gradients(policy, estimator, level=level) * factor
    check(samples, slope_of(one_variate))


def test_estimators_check_their_group():
    for make in (score_estimator, control_variate_estimator, pathwise_estimator):
        with pytest.raises(ValueError, match="group_size is 0, expected >= 1"):
            make(0)
    with pytest.raises(ValueError, match="group_size is 5, expected an even number"):
        score_estimator(5, antithetic=True)
    with pytest.raises(ValueError, match=r"path_share is 1\.5"):
        hybrid_estimator(4, 1.5)


def test_a_policy_without_a_path_has_no_pathwise_gradient():
    policy = beta_policy(KAPPA, sampler="jax")
    with pytest.raises(ValueError, match=r"policy\.path is None, expected a policy"):
        lesson_of(jax.random.key(0), policy, pathwise_estimator(2), CENTRED)
