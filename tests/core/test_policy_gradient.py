"""The score-function gradient against the exact one, through the real parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.objectives import Scene
from marssep_jax.policy import beta_policy
from marssep_jax.rollout import make_rollout
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.types import AdvantageFn, Estimate, Features, RewardContext
from marssep_jax.update.policy_loss import Coefficients, Lesson, make_policy_loss

KAPPA, GROUP, BATCHES = 9.0, 256, 1_000
LOGITS = jnp.array([-1.0, 0.8]).reshape(1, 1, 1, 2)
COUPLING = 0.5


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


def centred():
    """Subtract the mean of the OTHER samples, which leaves no bias."""
    scale = GROUP / (GROUP - 1)

    def apply(reward, active, state):
        return (reward - reward.mean(-1, keepdims=True)) * scale, state

    return AdvantageFn(lambda: (), apply)


def lesson_of(key):
    blank = jnp.zeros((1, 1, 2))
    features = Features(blank.astype(jnp.complex64), blank, blank)
    context = RewardContext(
        jnp.zeros((1, 1, 2)), jnp.zeros((1, 1, 1)), jnp.ones((1, 1))
    )
    rollout = make_rollout(
        beta_policy(KAPPA),
        lambda mask, _: Estimate(mask[..., 0, :], None),
        lambda estimate, _: score(estimate.embedding),
        centred(),
        GROUP,
    )
    drawn, _, _ = rollout(key, jax.nn.sigmoid(LOGITS), features, context, ())
    return Lesson(drawn, None, jnp.ones((1, 1)), Scene(features, blank[:, None]))


@pytest.mark.parametrize("level", ["bin", "mask", "joint"])
def test_score_function_gradient_is_the_exact_gradient(level):
    loss = make_policy_loss(
        beta_policy(KAPPA),
        clipped_surrogate(0.2, level),
        Coefficients(0.0, 0.0, 0.0, 0.0),
        None,
    )

    def estimate(key):
        slope, _ = jax.grad(loss, argnums=1, has_aux=True)(lesson_of(key), LOGITS)
        return -slope

    keys = jax.random.split(jax.random.key(0), BATCHES)
    samples = np.asarray(jax.jit(jax.vmap(estimate))(keys)).reshape(BATCHES, 2)
    # At ratio 1 the levels differ by a factor: bin and mask average over bins.
    samples = samples * (1 if level == "joint" else 2)
    expected = np.asarray(jax.grad(exact)(LOGITS)).ravel()
    error = samples.std(axis=0) / BATCHES**0.5
    assert (error < 0.03 * np.abs(expected)).all()  # the test has power
    assert (np.abs(samples.mean(axis=0) - expected) < 4 * error).all()
