"""The cosine with the pathwise gradient, and what it is made of."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marssep_jax.advantages import leave_one_out_advantage
from marssep_jax.estimators import pathwise_estimator, sample_group, score_estimator
from marssep_jax.listening import make_grid_listener
from marssep_jax.objectives import analyse_scene
from marssep_jax.policy import beta_policy
from marssep_jax.rewards import contrastive_reward
from marssep_jax.state import create_state
from marssep_jax.update.policy import reward_context
from marssep_jax.update.probe import (
    Hearing,
    make_limits,
    make_probe,
    make_reward_gradient,
    tree_cosine,
)

pytestmark = pytest.mark.usefixtures("quick_compile")
PATHS = 4


@pytest.fixture(scope="module")
def hearing(world):
    return Hearing(
        world.separator,
        world.frontend,
        beta_policy(noise_patch=(4, 4)),
        make_grid_listener(world.frontend, world.encode_grid),
        world.anchor,
        contrastive_reward(),
    )


@pytest.fixture(scope="module")
def state(world):
    return create_state(jax.random.key(5), world.init_params(), {}, optax.sgd(1.0))


def test_cosine_of_trees_by_hand():
    first = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}
    second = {"a": jnp.array([0.0, 1.0]), "b": jnp.array(1.0)}
    np.testing.assert_allclose(tree_cosine(first, second), 4 / (5 * 2**0.5), rtol=1e-6)
    nothing = jax.tree.map(jnp.zeros_like, first)
    assert tree_cosine(first, nothing) == 0.0


def test_pathwise_gradient_is_the_slope_of_the_mean_reward(hearing, state, batch):
    """Along the gradient the reward of the same uniforms grows as it says."""
    key = jax.random.key(2)
    gradient = jax.jit(
        make_reward_gradient(
            hearing, pathwise_estimator(PATHS), leave_one_out_advantage()
        )
    )(state.params, {}, batch, key)

    @jax.jit
    def mean_reward(step):
        params = jax.tree.map(lambda p, g: p + step * g, state.params, gradient)
        scene = analyse_scene(hearing.frontend, batch.target)
        logits, _ = hearing.separator(params, {}, scene.features.log_mag, batch.query)
        mask = sample_group(hearing.policy, key, jax.nn.sigmoid(logits), PATHS)
        context = reward_context(hearing.anchor, batch, scene)
        estimate = hearing.listen(mask, scene.features)
        return jnp.mean(hearing.reward(estimate, context))

    size = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient))
    step = 0.1 / size**0.5
    found = (mean_reward(step) - mean_reward(-step)) / (2 * step)
    # The table's quantiles are chords between its nodes, the slopes are exact.
    np.testing.assert_allclose(found, size, rtol=0.02)


def test_probe_tells_signal_from_noise(hearing, state, batch):
    advantage = leave_one_out_advantage()
    cosine = {
        name: make_probe(hearing, estimator, advantage, PATHS)(state, batch)
        for name, estimator in (
            ("path", pathwise_estimator(PATHS)),
            ("score of many", score_estimator(64)),
            ("score of two", score_estimator(2)),
        )
    }
    found = {name: float(row["policy/cos_pathwise"]) for name, row in cosine.items()}
    assert found["path"] > 0.9
    assert 0.9 > found["score of many"] > found["score of two"]


def test_probe_draws_anew_at_every_step(hearing, state, batch):
    probe = make_probe(hearing, score_estimator(2), leave_one_out_advantage(), 2)
    later = dataclasses.replace(state, step=state.step + 1)
    first, second, third = (
        float(probe(each, batch)["policy/cos_pathwise"])
        for each in (state, state, later)
    )
    assert first == second != third


def test_a_reward_that_is_turned_round_turns_the_gradient(hearing, state, batch):
    plain = hearing.reward
    turned = hearing._replace(reward=lambda *given: -plain(*given))
    estimator = partial(make_reward_gradient, estimator=pathwise_estimator(2))
    up, down = (
        jax.jit(estimator(each, advantage=leave_one_out_advantage()))(
            state.params, {}, batch, jax.random.key(0)
        )
        for each in (hearing, turned)
    )
    np.testing.assert_allclose(tree_cosine(up, down), -1.0, rtol=1e-5)


def test_limits_are_the_rewards_of_known_masks(hearing, state, batch):
    found = make_limits(hearing)(state, batch)
    scene = analyse_scene(hearing.frontend, batch.target)
    context = reward_context(hearing.anchor, batch, scene)
    # All logits are 0: the mode is 1/2 everywhere, which the embedding, whose length
    # is 1, cannot tell from an open mask.
    mixture = jnp.full((4, 2, 1, 32, 16), 0.5)
    heard = hearing.listen(mixture, scene.features)
    expected = jnp.mean(hearing.reward(heard, context))
    np.testing.assert_allclose(found["reward/of_mode"], expected, atol=1e-5)
    np.testing.assert_allclose(found["reward/of_mixture"], expected, atol=1e-3)
    assert float(found["reward/of_ideal"]) > float(expected) + 0.3
