"""Numbers gone bad: an update that meets them changes nothing but its number."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marssep_jax.advantages import moving_average_advantage
from marssep_jax.objectives import make_supervised_objective
from marssep_jax.policy import beta_policy
from marssep_jax.rewards import cosine_reward
from marssep_jax.state import create_state
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.update import make_policy_update, make_supervised_update

pytestmark = pytest.mark.usefixtures("quick_compile")
TX = optax.adam(0.05)
ADVANTAGE = moving_average_advantage(0.9)
BAD = [jnp.nan, jnp.inf, -jnp.inf]


def new_state(world, model_state=None):
    params = world.init_params()
    return create_state(jax.random.key(0), params, model_state or {}, TX, ADVANTAGE)


def spoilt(batch, value):
    """Put one bad sample into one target."""
    return batch._replace(target=batch.target.at[0, 0, 5].set(value))


def kept(tree):
    """Copy to the host, as an update donates its state."""
    return jax.tree.map(np.array, dataclasses.replace(tree, key=None))


def assert_skipped(update, state, batch):
    before = kept(state)
    state, metrics = update(state, batch)
    after = kept(state)
    assert float(metrics["update/skipped"]) == 1.0
    assert int(after.step) == int(before.step) + 1
    chex.assert_trees_all_equal(dataclasses.replace(after, step=before.step), before)
    chex.assert_tree_all_finite(after)
    return state, metrics


def assert_taken(update, state, batch):
    before = kept(state)
    state, metrics = update(state, batch)
    assert float(metrics["update/skipped"]) == 0.0
    assert float(metrics["update/norm"]) > 0
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(kept(state).params, before.params)
    return state


@pytest.fixture(scope="module")
def supervised(world):
    """A supervised update whose statistics follow its input."""

    def separator(params, model_state, log_mag, query, *, train=False):
        logits, _ = world.separator(params, {}, log_mag, query)
        return logits, {"mean": 0.9 * model_state["mean"] + 0.1 * jnp.mean(log_mag)}

    objective = make_supervised_objective()
    return make_supervised_update(separator, world.frontend, objective, TX)


@pytest.mark.parametrize("value", BAD)
def test_bad_sample_in_a_supervised_batch(world, batch, supervised, value):
    state = new_state(world, {"mean": jnp.zeros(())})
    state = assert_taken(supervised, state, batch)
    state, metrics = assert_skipped(supervised, state, spoilt(batch, value))
    assert not np.isfinite(metrics["supervised/loss"])
    assert_taken(supervised, state, batch)


def test_bad_gradient_of_a_finite_loss(world, batch):
    """The loss is finite, its slope is not: sqrt at 0."""

    def objective(logits, scene):
        return jnp.sum(jnp.sqrt(0.0 * logits)), {}

    update = make_supervised_update(world.separator, world.frontend, objective, TX)
    _, metrics = assert_skipped(update, new_state(world), batch)
    assert not np.isfinite(metrics["grad/norm"])


def policy_update(world, reward, inner_epochs=1):
    return make_policy_update(
        world.separator,
        world.frontend,
        beta_policy(),
        world.listen,
        world.anchor,
        reward,
        ADVANTAGE,
        clipped_surrogate(0.2, "bin"),
        TX,
        group_size=3,
        inner_epochs=inner_epochs,
    )


def spoils(value):
    """Return a reward with a bad one among those of loud batches."""
    inner = cosine_reward()

    def reward(estimate, context):
        found = inner(estimate, context)
        is_loud = jnp.max(jnp.abs(context.target)) > 100.0
        return found.at[0, 0, 0].set(jnp.where(is_loud, value, found[0, 0, 0]))

    return reward


def test_bad_reward(world, batch):
    """The running baseline must not take it in either."""
    loud = batch._replace(target=batch.target * 1e4 / jnp.max(jnp.abs(batch.target)))
    for value, epochs in ((jnp.nan, 2), (-jnp.inf, 1)):
        update = policy_update(world, spoils(value), epochs)
        state = assert_taken(update, new_state(world), batch)
        state, _ = assert_skipped(update, state, loud)
        assert_taken(update, state, batch)


def test_bad_reward_of_an_absent_target_does_not_count(world):
    mixture = world.batch(jax.random.key(1), 4, 1)
    inner = cosine_reward()

    def reward(estimate, context):
        found, active = inner(estimate, context), context.active[:, :, None] > 0
        return jnp.where(active, found, jnp.nan)

    update = policy_update(world, reward)
    assert_taken(update, new_state(world), mixture)
