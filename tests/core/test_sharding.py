"""One device and many give the same training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marssep_jax.advantages import group_advantage, moving_average_advantage
from marssep_jax.config import SeparatorConfig
from marssep_jax.estimators import sample_group
from marssep_jax.models import make_separator
from marssep_jax.objectives import make_supervised_objective
from marssep_jax.policy import beta_policy
from marssep_jax.replicas import all_devices, averaged_gradient, rows_of_one_draw
from marssep_jax.rewards import cosine_reward
from marssep_jax.sharding import (
    cut_or_copied,
    data_parallel,
    host_copy,
    make_data_mesh,
    place_batch,
    place_state,
    where_data_are,
)
from marssep_jax.state import create_state, with_reference
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.types import AXIS
from marssep_jax.update import make_policy_update, make_supervised_update

NUM_STEPS = 20
BATCH_SIZE = 8
LOUD = 10.0
"""Logarithm of a magnitude that no batch here has."""
SEPARATOR = make_separator(
    SeparatorConfig("compact", embed_dim=3, num_channels=4, widths=(8,))
)
TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
ADVANTAGE = group_advantage()
LOSS = {"supervised": "supervised/loss", "policy": "policy/loss"}


def make_update(world, stage, pmap, fixed):
    """Build a stage's update; what is fixed scales what the encoder hears."""
    apply = averaged_gradient(SEPARATOR.apply) if pmap else SEPARATOR.apply
    if stage == "supervised":
        return make_supervised_update(
            apply, world.frontend, make_supervised_objective(), TX
        )
    policy = rows_of_one_draw(beta_policy()) if pmap else beta_policy()
    return make_policy_update(
        apply,
        world.frontend,
        policy,
        lambda *args: _louder(world.listen(*args), fixed["scale"]),
        world.anchor,
        cosine_reward(),
        ADVANTAGE,
        clipped_surrogate(0.2, "bin"),
        TX,
        group_size=4,
        kl_ref_coef=0.1,
        supervised_coef=0.1,
        objective=make_supervised_objective(),
    )


def _louder(estimate, scale):
    return estimate._replace(embedding=estimate.embedding * scale.mean())


@pytest.fixture(scope="module")
def train(world, quick_compile):
    """Return a function that trains, once for every way of it."""
    batches = [
        jax.tree.map(np.asarray, world.batch(jax.random.key(index), BATCH_SIZE))
        for index in range(NUM_STEPS)
    ]
    start = SEPARATOR.init(jax.random.key(0), world.frontend.config)
    done = {}

    def run(stage, count, strategy="jit", cut=False):
        name = (stage, count, strategy, cut)
        if name in done:
            return done[name]
        mesh, traces = make_data_mesh(jax.devices()[:count]), []

        def update(fixed, state, batch):
            traces.append(1)
            made = make_update(world, stage, strategy == "pmap", fixed)
            return made(state, batch)

        state = create_state(jax.random.key(0), *start, TX, ADVANTAGE)
        state = place_state(with_reference(state), mesh, cut=cut, smallest=8)
        fixed = place_state(
            {"scale": np.ones(8, np.float32)}, mesh, cut=cut, smallest=8
        )
        step, losses = data_parallel(update, mesh, fixed, strategy=strategy), []
        for batch in batches:
            state, metrics = step(state, batch)
            losses.append(float(metrics[LOSS[stage]]))
        done[name] = state, losses, len(traces), metrics
        return done[name]

    return run


@pytest.mark.parametrize("count", [2, 4, 8])
@pytest.mark.parametrize("stage", ["supervised", "policy"])
def test_more_devices_equal_one(train, stage, count):
    _, alone, *_ = train(stage, 1)
    state, losses, traces, _ = train(stage, count)
    assert np.ptp(alone) > 1e-3  # it moves
    np.testing.assert_allclose(losses, alone, rtol=0, atol=1e-5)
    assert traces == 1
    leaf = jax.tree.leaves(state.params)[0]
    assert leaf.sharding.is_fully_replicated
    assert len(leaf.sharding.device_set) == count


@pytest.mark.parametrize("stage", ["supervised", "policy"])
def test_pmap_equals_jit(train, stage):
    """Groups of four on four devices: each draws its own rows of the same masks."""
    state, losses, _, metrics = train(stage, 4, "pmap")
    _, expected, _, wanted = train(stage, 4)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
    assert metrics.keys() == wanted.keys()
    for name in ("grad/norm", "params/norm"):
        np.testing.assert_allclose(metrics[name], wanted[name], rtol=1e-3)
    assert int(state.step) == NUM_STEPS
    assert jax.tree.leaves(state.params)[0].sharding.is_fully_replicated


def test_state_that_is_cut_equals_copies(train):
    state, losses, *_ = train("policy", 8, cut=True)
    np.testing.assert_allclose(losses, train("policy", 1)[1], rtol=0, atol=1e-5)
    placed = cut_or_copied(state, make_data_mesh(jax.devices()[:8]), smallest=8)
    assert not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(placed))
    kept = jax.tree.map(
        lambda leaf, where: leaf.sharding.is_equivalent_to(where, leaf.ndim),
        state,
        placed,
    )
    assert all(jax.tree.leaves(kept))


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_masks_do_not_hang_on_the_number_of_devices(count):
    """The masks of a batch are the same, bit for bit, however it is cut."""
    draw = jax.jit(partial(sample_group, beta_policy(), group_size=3))
    shape = (BATCH_SIZE, 2, 16, 8)
    proposal = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    mesh = make_data_mesh(jax.devices()[:count])
    masks = draw(jax.random.key(1), place_batch(proposal, mesh))
    expected = jax.jit(beta_policy().sample)
    keys = jax.random.split(jax.random.key(1), 3)
    for group, key in enumerate(keys):
        np.testing.assert_array_equal(masks[:, :, group], expected(key, proposal))


def test_masks_of_pmap_are_those_of_jit():
    shape = (BATCH_SIZE, 2, 16, 8)
    proposal = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    sample = jax.pmap(
        rows_of_one_draw(beta_policy()).sample, axis_name="data", in_axes=(None, 0)
    )
    masks = sample(jax.random.key(1), proposal.reshape(4, 2, *shape[1:]))
    expected = jax.jit(beta_policy().sample)(jax.random.key(1), proposal)
    np.testing.assert_array_equal(np.reshape(masks, shape), expected)


def test_pmap_agrees_on_what_devices_learn(world):
    """A running baseline is one number, also after rows of their own."""
    mesh = make_data_mesh(jax.devices()[:2])
    advantage = moving_average_advantage(0.5)

    def update(state, batch):
        rewards = batch.target[..., :1]
        _, moved = advantage.apply(rewards, jnp.ones((1, 1)), state.advantage_state)
        return state.replace(advantage_state=moved), {"largest_max": rewards.max()}

    state = create_state(jax.random.key(0), {}, {}, TX, advantage)
    step = data_parallel(update, mesh, strategy="pmap")
    target = np.asarray([1.0, 3.0], np.float32).reshape(2, 1, 1)
    empty = np.zeros((2, 1, 1), np.float32)
    batch = world.batch(jax.random.key(0))._replace(
        target=target, query=empty, text=empty, image=empty, label=empty[..., 0]
    )
    state, metrics = step(state, batch)
    total, weight = state.advantage_state
    assert float(total / weight) == pytest.approx(2.0)
    assert float(metrics["largest_max"]) == 3.0


def test_pmap_skips_on_all_devices_what_one_finds_bad(world):
    """A loss that is not finite on one device, with gradients that are on all."""

    def objective(logits, scene):
        bad = jnp.max(scene.features.log_mag) > LOUD
        return jnp.mean(logits**2) + jnp.where(bad, jnp.inf, 0.0), {}

    update = make_supervised_update(
        averaged_gradient(SEPARATOR.apply), world.frontend, objective, TX
    )
    mesh = make_data_mesh(jax.devices()[:2])
    step = data_parallel(update, mesh, strategy="pmap")
    start = SEPARATOR.init(jax.random.key(0), world.frontend.config)
    state = place_state(create_state(jax.random.key(0), *start, TX, ADVANTAGE), mesh)
    batch = jax.tree.map(np.asarray, world.batch(jax.random.key(0), 2))
    state, metrics = step(state, batch)
    assert float(metrics["update/skipped"]) == 0.0
    before = host_copy(state.params)
    target = batch.target.copy()
    target[1] *= 1e6  # on the second device
    state, metrics = step(state, batch._replace(target=target))
    assert float(metrics["update/skipped"]) == 1.0
    jax.tree.map(np.testing.assert_array_equal, host_copy(state.params), before)


def test_all_devices_are_asked_where_there_are_many():
    both = jax.pmap(
        lambda x: (all_devices(jax.lax.pmin, x), all_devices(jax.lax.pmean, x)),
        axis_name=AXIS,
        devices=jax.devices()[:2],
    )
    least, mean = both(np.asarray([1.0, 3.0], np.float32))
    assert least.tolist() == [1.0, 1.0]
    assert mean.tolist() == [2.0, 2.0]
    alone = jax.jit(lambda x: all_devices(jax.lax.pmin, x))
    assert float(alone(np.float32(3.0))) == 3.0


def test_longest_axis_that_fits_is_cut():
    mesh = make_data_mesh(jax.devices()[:4])
    shapes = {"long": (3, 8, 16), "odd": (7, 9), "small": (4,), "key": ()}
    tree = {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()}
    found = {k: tuple(v.spec) for k, v in cut_or_copied(tree, mesh, 8).items()}
    assert found == {"long": (None, None, "data"), "odd": (), "small": (), "key": ()}


def test_host_copy_is_whole():
    mesh = make_data_mesh(jax.devices()[:4])
    tree = {"a": np.arange(1 << 14, dtype=np.float32), "b": np.float32(3)}
    placed = place_state(tree, mesh, cut=True)
    assert len(placed["a"].addressable_shards[0].data) == 1 << 12
    jax.tree.map(np.testing.assert_array_equal, host_copy(placed), tree)


def test_unknown_strategy():
    with pytest.raises(ValueError, match="strategy is 'xmap', expected 'jit' or 'pm"):
        data_parallel(
            lambda state, batch: (state, {}), make_data_mesh(), strategy="xmap"
        )


def test_batch_is_cut_along_its_first_axis():
    placed = place_batch({"x": np.arange(16.0).reshape(16, 1)}, make_data_mesh())
    shards = {
        s.device.id: np.asarray(s.data).ravel() for s in placed["x"].addressable_shards
    }
    assert sorted(len(rows) for rows in shards.values()) == [2] * 8
    np.testing.assert_array_equal(jnp.ravel(placed["x"]), np.arange(16.0))


def test_batch_that_does_not_divide():
    expected = "batch_size is 6 on this host, expected a mul"
    with pytest.raises(ValueError, match=expected):
        place_batch({"x": np.zeros((6, 1))}, make_data_mesh())
    step = data_parallel(lambda s, b: (s, {}), make_data_mesh(), strategy="pmap")
    with pytest.raises(ValueError, match=expected):
        step({}, {"x": np.zeros((6, 1))})


def test_calls_run_where_their_data_are():
    @jax.jit
    def scale(factor, values):
        return factor["a"] * values

    call = where_data_are(scale, {"a": np.float32(3)}, devices=jax.devices()[:2])
    for device in jax.devices()[:2]:
        found = call(jax.device_put(np.arange(4.0, dtype=np.float32), device))
        assert found.devices() == {device}
        np.testing.assert_array_equal(found, [0, 3, 6, 9])
