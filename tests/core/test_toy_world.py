"""Learning by reward alone: it must work, and only if the reward is right."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from marssep_jax.advantages import group_advantage
from marssep_jax.policy import beta_policy
from marssep_jax.rewards import cosine_reward
from marssep_jax.state import create_state
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.update import make_policy_update

NUM_UPDATES = 150


def train(world, reward):
    """Train three seeds side by side.

    Returns mean rewards and the largest log-ratio at the first of the two inner
    epochs, each [seed, update].
    """
    tx, advantage = optax.adam(0.05), group_advantage()
    update = make_policy_update(
        world.separator,
        world.frontend,
        beta_policy(),
        world.listen,
        world.anchor,
        reward,
        advantage,
        clipped_surrogate(0.2, "bin"),
        tx,
        group_size=6,
        inner_epochs=2,
        entropy_coef=0.0,
    )

    def step(state, index):
        batch = world.batch(jax.random.fold_in(jax.random.key(99), index), 2)
        state, metrics = update(state, batch)
        return state, (metrics["reward/mean"], metrics["policy/log_ratio_start"])

    def run(seed):
        params = world.init_params()
        state = create_state(jax.random.key(seed), params, {}, tx, advantage)
        return jax.lax.scan(step, state, jnp.arange(NUM_UPDATES))[1]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(jnp.arange(3)))


def test_reward_rises_on_three_seeds(world):
    reward, log_ratio_start = train(world, cosine_reward())
    # Half-open masks pass the mixture, whose cosine to either tone is about 0.7.
    assert (reward[:, 0] < 0.75).all()
    # 0.99 in practice; 0.95 means that the other tone is 10 dB down.
    assert (reward[:, -10:].mean(axis=1) > 0.95).all()
    # Ratio 1 before every first inner step: a log-density of up to 40 nats where
    # masks are nearly binary, computed twice in float32.
    assert log_ratio_start.max() < 1e-4


def test_unrelated_reward_teaches_nothing(world):
    """The same rewards, handed to the masks of a group regardless of merit.

    Sorted, they belong to positions in the group, and positions mean nothing.
    (Passing each mask its neighbour's reward would not do: in a centred group
    the others' rewards speak against one's own.)
    """
    plain = cosine_reward()
    reward, _ = train(world, lambda *args: jnp.sort(plain(*args), axis=-1))
    # The weights still move, at random: 0.6 to 0.85 in practice.
    assert (reward[:, -10:].mean(axis=1) < 0.9).all()
