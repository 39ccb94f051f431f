"""The score-function gradient against the exact one, on a grid of two bins.

The expected reward of two independent Beta bins is a double integral that
Gauss-Jacobi quadrature gives to ten digits, its gradient a difference quotient in
double precision. Sampled estimates are held against it in standard errors: five,
which chance exceeds in one of 1.7 million comparisons.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from marssep_jax.advantages import leave_one_out_advantage
from marssep_jax.policy import beta_policy, patch_beta_policy
from marssep_jax.surrogates import clipped_surrogate, policy_gradient

KAPPA = 9.0
INDEPENDENT = beta_policy(KAPPA)
SHARED = beta_policy(KAPPA, noise_patch=(1, 2))
PATCH = patch_beta_policy(KAPPA, (1, 2))
NUM_SAMPLES = 100_000
MEAN_SLOPE = KAPPA / (2 + KAPPA)  # d E[M] / d P
PROPOSALS = [(0.3, 0.6), (0.02, 0.95), (0.5, 0.5)]


def smooth_reward(mask, lib=jnp):
    """Couple the bins and bend in both; mask is [..., 2]."""
    first, second = mask[..., 0], mask[..., 1]
    return lib.sin(3 * first) * lib.exp(-second) + 0.5 * first * second**2


def nodes_of(p, count):
    """Quadrature nodes and probabilities of Beta(1 + kappa p, 1 + kappa (1 - p))."""
    nodes, weights = special.roots_jacobi(count, KAPPA * (1 - p), KAPPA * p)
    return (1 + nodes) / 2, weights / weights.sum()


def product_rule(proposal, count):
    """Nodes [count^2, 2] and probabilities of two independent bins."""
    (x, u), (y, v) = (nodes_of(p, count) for p in proposal)
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    return grid.reshape(-1, 2), np.outer(u, v).ravel()


def slope_of(expected, proposal, step=1e-4):
    """Central differences: error step^2, and 1e-12 of rounding over step."""
    shifts = step * np.eye(len(proposal))
    proposal = np.asarray(proposal)
    return np.array(
        [(expected(proposal + s) - expected(proposal - s)) / (2 * step) for s in shifts]
    )


def expected_reward(proposal):
    mask, probability = product_rule(proposal, 40)
    return probability @ smooth_reward(mask, np)


def as_grid(proposal):
    """One row, two columns."""
    return jnp.asarray(proposal, jnp.float32)[None]


@partial(jax.jit, static_argnums=0)
def draw_masks(policy, keys, grid):
    return jax.vmap(policy.sample, (0, None))(keys, grid)


def draw(policy, proposal):
    """Masks [G, 1, 2]."""
    keys = jax.random.split(jax.random.key(0), NUM_SAMPLES)
    return draw_masks(policy, keys, as_grid(proposal))


@partial(jax.jit, static_argnums=0)
def grid_scores(policy, grid, mask):
    score = jax.grad(lambda p, m: jnp.sum(policy.log_prob(p, m)))
    return jax.vmap(score, (None, 0))(grid, mask)[:, 0]


def scores(policy, proposal, mask):
    """Gradient in P of a mask's summed log-density, one row per mask: [G, 2]."""
    return np.asarray(grid_scores(policy, as_grid(proposal), mask))


def mean_and_error(terms):
    return terms.mean(0), terms.std(0) / np.sqrt(len(terms))


def estimate(policy, proposal, reward):
    """Mean of (R - mean R) grad ln pi, its standard error, both [2].

    Subtracting the mean of the same rewards takes 1 / NUM_SAMPLES of the result
    away, a hundredth of a standard error.
    """
    mask = draw(policy, proposal)
    value = np.asarray(reward(mask[:, 0]))
    centred = (value - value.mean())[:, None]
    return mean_and_error(centred * scores(policy, proposal, mask))


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_expectation_of_the_score_estimator_is_the_exact_gradient(proposal):
    # No chance here: E[R grad ln pi] by quadrature, with the policy's own float32
    # gradient. The logarithms in it converge like 1 / count^2 near the ends.
    mask, probability = product_rule(proposal, 100)
    score = scores(INDEPENDENT, proposal, jnp.asarray(mask, jnp.float32)[:, None])
    weighted = (probability * smooth_reward(mask, np))[:, None] * score
    exact = slope_of(expected_reward, proposal)
    np.testing.assert_allclose(weighted.sum(0), exact, atol=5e-4)


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_sampled_estimator_is_unbiased(proposal):
    got, error = estimate(INDEPENDENT, proposal, smooth_reward)
    exact = slope_of(expected_reward, proposal)
    assert np.all(np.abs(got - exact) < 5 * error)
    # The comparison means something: the error is small beside the gradient.
    assert np.linalg.norm(error) < 0.05 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("surrogate", "scale"),
    [
        (clipped_surrogate(0.2, "bin"), 2),
        (clipped_surrogate(0.2, "mask"), 2),
        (clipped_surrogate(0.2, "joint"), 1),
        (policy_gradient(), 2),
    ],
    ids=["bin", "mask", "joint", "policy_gradient"],
)
def test_surrogate_climbs_the_exact_gradient(surrogate, scale):
    # From sample to J as the update does it, at ratio 1; a mean over two bins
    # halves the gradient, except at level "joint".
    proposal, policy = PROPOSALS[0], INDEPENDENT
    mask = draw(policy, proposal)[None, None]
    reward = smooth_reward(mask[..., 0, :])
    log_prob = jax.vmap(policy.log_prob, (None, 2), 2)

    def objective(grid):
        log_ratio = log_prob(grid, mask) - jax.lax.stop_gradient(log_prob(grid, mask))
        return surrogate(log_ratio, reward - jnp.mean(reward))[0]

    grid = jnp.asarray(proposal, jnp.float32).reshape(1, 1, 1, 2)
    got = scale * np.asarray(jax.jit(jax.grad(objective))(grid)).ravel()
    _, error = estimate(policy, proposal, smooth_reward)
    assert np.all(np.abs(got - slope_of(expected_reward, proposal)) < 5 * error)


def test_leave_one_out_keeps_the_gradient_and_lowers_its_error():
    # Groups of four; the advantage is undone of its scale, one number.
    proposal, policy = PROPOSALS[0], INDEPENDENT
    mask = draw(policy, proposal)
    reward = smooth_reward(mask[:, 0]) + 5.0  # a level that a baseline must remove
    grouped = np.asarray(reward).reshape(-1, 1, 4)
    others = (grouped.sum(-1, keepdims=True) - grouped) / 3
    advantage = leave_one_out_advantage()
    gain, _ = advantage.apply(jnp.asarray(grouped), jnp.ones((len(grouped), 1)), None)
    scale = np.std(grouped - others)
    score = scores(policy, proposal, mask)
    terms = scale * np.asarray(gain).reshape(-1, 1) * score
    # Terms of one group depend on each other: the error is that of group means.
    got, error = mean_and_error(terms.reshape(-1, 4, 2).mean(1))
    exact = slope_of(expected_reward, proposal)
    assert np.all(np.abs(got - exact) < 5 * error)
    _, bare_error = mean_and_error(np.asarray(reward)[:, None] * score)
    assert np.all(error < 0.2 * bare_error)


def test_shared_noise_makes_the_estimator_n_times_too_large():
    # Reward M_1 + M_2 at equal P: the exact gradient is that of independent bins,
    # because expectations add up; the estimator gives each bin what both earned.
    policy, proposal = SHARED, (0.4, 0.4)
    got, error = estimate(policy, proposal, lambda mask: mask.sum(-1))
    assert np.all(np.abs(got - 2 * MEAN_SLOPE) < 5 * error)
    assert np.all(got - MEAN_SLOPE > 50 * error)
    # Independent noise has no such bias.
    got, error = estimate(INDEPENDENT, proposal, lambda mask: mask.sum(-1))
    assert np.all(np.abs(got - MEAN_SLOPE) < 5 * error)


def test_shared_noise_cannot_tell_the_bins_of_a_patch_apart():
    # Reward M_1 - M_2: the exact gradient is (1, -1) times 9 / 11. At P = (0.3,
    # 0.6) the estimator keeps less than a tenth of it, and at equal P nothing.
    policy = SHARED
    exact = MEAN_SLOPE * np.array([1.0, -1.0])
    got, error = estimate(policy, (0.3, 0.6), lambda mask: mask[..., 0] - mask[..., 1])
    assert np.all(np.abs(got - exact) > 50 * error)
    assert np.all(np.abs(got) < 0.1 * np.abs(exact))
    got, _ = estimate(policy, (0.4, 0.4), lambda mask: mask[..., 0] - mask[..., 1])
    np.testing.assert_array_equal(got, 0.0)


def test_patch_action_is_unbiased_where_shared_noise_is_not():
    # One variate of the mean proposal for both bins, so each bin has half of the
    # slope of the one-dimensional integral.
    def expected(mean):
        mask, probability = nodes_of(mean[0], 40)
        return probability @ smooth_reward(np.stack([mask, mask], -1), np)

    proposal = (0.3, 0.6)
    exact = slope_of(expected, (0.45,)) / 2 * np.ones(2)
    got, error = estimate(PATCH, proposal, smooth_reward)
    assert np.all(np.abs(got - exact) < 5 * error)
