"""One device and four give the same training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marssep_jax.advantages import group_advantage
from marssep_jax.policy import beta_policy
from marssep_jax.rewards import cosine_reward
from marssep_jax.sharding import (
    data_parallel,
    make_data_mesh,
    place_batch,
    replicate,
    where_data_are,
)
from marssep_jax.state import create_state
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.update import make_policy_update

NUM_STEPS = 3


@pytest.fixture(scope="module")
def trained(world, quick_compile):
    """Train on one and on four devices; return (state, rewards, compilations)."""
    tx, advantage = optax.adam(0.05), group_advantage()
    runs = []
    for count in (1, 4):
        update = make_policy_update(
            world.separator,
            world.frontend,
            beta_policy(),
            world.listen,
            world.anchor,
            cosine_reward(),
            advantage,
            clipped_surrogate(0.2, "bin"),
            tx,
            group_size=4,
        )
        traces = []

        def counted(state, batch, update=update, traces=traces):
            traces.append(1)
            return update(state, batch)

        mesh = make_data_mesh(jax.devices()[:count])
        step = data_parallel(counted, mesh)
        state = create_state(jax.random.key(0), world.init_params(), {}, tx, advantage)
        state, rewards = replicate(state, mesh), []
        for index in range(NUM_STEPS):
            batch = jax.tree.map(np.asarray, world.batch(jax.random.key(index)))
            state, metrics = step(state, batch)
            rewards.append(float(metrics["reward/mean"]))
        runs.append((state, rewards, len(traces)))
    return runs


def test_four_devices_equal_one(trained):
    (one, rewards_one, _), (four, rewards_four, _) = trained
    # Float32 sums in another order; Adam's division makes 1e-7 into some 1e-5.
    np.testing.assert_allclose(rewards_one, rewards_four, rtol=1e-5)
    for a, b in zip(
        jax.tree.leaves(one.params), jax.tree.leaves(four.params), strict=True
    ):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-3)
    assert int(four.step) == NUM_STEPS


def test_compiles_once(trained):
    assert [traces for _, _, traces in trained] == [1, 1]


def test_state_stays_on_every_device(trained):
    leaf = jax.tree.leaves(trained[1][0].params)[0]
    assert leaf.sharding.is_fully_replicated
    assert len(leaf.sharding.device_set) == 4


def test_batch_is_cut_along_its_first_axis():
    placed = place_batch({"x": np.arange(8.0).reshape(8, 1)}, make_data_mesh())
    shards = {
        s.device.id: np.asarray(s.data).ravel() for s in placed["x"].addressable_shards
    }
    assert sorted(len(rows) for rows in shards.values()) == [2, 2, 2, 2]
    np.testing.assert_array_equal(jnp.ravel(placed["x"]), np.arange(8.0))


def test_batch_that_does_not_divide():
    with pytest.raises(
        ValueError, match="batch_size is 6 on this host, expected a mul"
    ):
        place_batch({"x": np.zeros((6, 1))}, make_data_mesh())


def test_calls_run_where_their_data_are():
    @jax.jit
    def scale(factor, values):
        return factor["a"] * values

    call = where_data_are(scale, {"a": np.float32(3)}, devices=jax.devices()[:2])
    for device in jax.devices()[:2]:
        found = call(jax.device_put(np.arange(4.0, dtype=np.float32), device))
        assert found.devices() == {device}
        np.testing.assert_array_equal(found, [0, 3, 6, 9])
