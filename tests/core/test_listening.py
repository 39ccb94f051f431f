"""Listeners: what a mask lets through, and how far the shortcut is off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.listening import (
    join_anchors,
    join_listeners,
    make_grid_listener,
    make_waveform_listener,
)
from marssep_jax.policy import beta_policy
from marssep_jax.rewards import cosine_reward
from marssep_jax.rollout import listener_agreement
from marssep_jax.types import RewardContext

OPEN = np.ones((4, 2, 3, 32, 16), np.float32)


@pytest.fixture(scope="module")
def listen(world):
    return jax.jit(world.listen)


@pytest.fixture(scope="module")
def listen_grid(world):
    return jax.jit(make_grid_listener(world.frontend, world.encode_grid))


def test_open_mask_passes_the_mixture(world, batch, scene, listen):
    heard = listen(OPEN, scene.features)
    mixture = np.broadcast_to(batch.target.sum(1)[:, None, None], (4, 2, 3, 1_023))
    # float32 STFT and its inverse on samples below 1.
    np.testing.assert_allclose(heard.waveform, mixture, atol=1e-5)
    expected = jax.jit(world.encode)(mixture)
    np.testing.assert_allclose(heard.embedding, expected, atol=1e-4)


def test_each_mask_is_heard_by_itself(scene, listen):
    mask = np.random.default_rng(0).uniform(size=OPEN.shape).astype(np.float32)
    whole = listen(mask, scene.features).waveform
    other = mask.copy()
    other[2, 1, 1] = 0.0
    changed = np.asarray(listen(other, scene.features).waveform != whole).any(axis=-1)
    assert changed[2, 1, 1]
    assert changed.sum() == 1


@pytest.mark.parametrize("at_once", [1, 8, 23])
def test_parts_of_a_group_are_heard_as_the_whole(world, scene, at_once):
    """Three masks of eight targets: one after the other, values and gradients."""
    mask = np.random.default_rng(0).uniform(size=OPEN.shape).astype(np.float32)
    parts = make_waveform_listener(world.frontend, world.encode, waves_at_once=at_once)
    weight = np.random.default_rng(1).normal(size=(4, 2, 3, 1)).astype(np.float32)

    def run(listen):
        def total(mask):
            heard = listen(mask, scene.features)
            return jnp.sum(weight * heard.embedding), heard

        return jax.jit(jax.grad(total, has_aux=True))(mask)

    (slope, found), (expected_slope, expected) = run(parts), run(world.listen)
    np.testing.assert_allclose(found.waveform, expected.waveform, atol=1e-6)
    np.testing.assert_allclose(found.embedding, expected.embedding, atol=1e-5)
    scale = float(jnp.abs(expected_slope).max())
    np.testing.assert_allclose(slope, expected_slope, atol=1e-4 * scale)
    assert found.magnitude is None


def test_a_larger_group_takes_no_more_room_to_hear(world, scene):
    """Only what is kept of an estimate grows with the group."""

    def room(group, at_once):
        listen = make_waveform_listener(
            world.frontend, world.encode, waves_at_once=at_once
        )
        mask = jax.ShapeDtypeStruct((4, 2, group, 32, 16), jnp.float32)
        compiled = jax.jit(lambda m: listen(m, scene.features)).lower(mask).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    kept = 4 * 2 * 16 * (32 * 16 + 1_023 + 64) * 4
    assert room(32, 8) - room(16, 8) < 2 * kept
    assert room(32, 256) - room(16, 256) > 4 * kept


def test_ratio_mask_keeps_its_tone(batch, scene, listen):
    total = scene.target_magnitude.sum(1, keepdims=True)
    share = (scene.target_magnitude / total)[:, :, None]
    heard = listen(share, scene.features).waveform[:, :, 0]
    error = jnp.sum((heard - batch.target) ** 2, -1) / jnp.sum(batch.target**2, -1)
    # Tones 1 kHz apart, far above the window's 60 Hz lobes: -15 dB at the least.
    assert float(error.max()) < 10**-1.5


def test_length_is_a_choice(world, scene):
    listen = make_waveform_listener(world.frontend, world.encode, length=700)
    shape = jax.eval_shape(listen, OPEN, scene.features).waveform.shape
    assert shape == (4, 2, 3, 700)


def test_grid_listener_hears_the_mixture_through_an_open_mask(
    world, batch, scene, listen_grid
):
    heard = listen_grid(OPEN, scene.features)
    direct = jax.jit(world.encode)(batch.target.sum(1))
    assert heard.waveform is None
    np.testing.assert_allclose(heard.embedding[:, 1, 2], direct, atol=1e-4)


def test_shut_mask_is_finite_on_the_grid(scene, listen_grid):
    heard = listen_grid(np.zeros_like(OPEN), scene.features)
    assert bool(jnp.all(jnp.isfinite(heard.embedding)))


@pytest.fixture(scope="module")
def groups():
    """Groups of eight masks, each drawn around rows tilted in another way."""
    tilt = jax.random.normal(jax.random.key(3), (4, 2, 8, 32, 1))
    proposal = jnp.broadcast_to(jax.nn.sigmoid(2 * tilt), (4, 2, 8, 32, 16))
    return jax.jit(beta_policy().sample)(jax.random.key(4), proposal)


def agreement(world, batch, first, second):
    target = batch.target
    context = RewardContext(world.anchor(batch), target, jnp.ones(target.shape[:2]))
    compare = jax.jit(listener_agreement(first, second, cosine_reward()))
    return lambda mask, scene: compare(mask, scene.features, context)


def test_shortcut_ranks_masks_like_the_waveform(world, batch, scene, groups):
    listen_grid = make_grid_listener(world.frontend, world.encode_grid)
    compare = agreement(world, batch, world.listen, listen_grid)
    # Masks this rough make the STFT most inconsistent, and still: 0.95 or more.
    assert float(compare(groups, scene)["listening/corr"]) > 0.9


def test_agreement_is_lost_when_masks_are_swapped(world, batch, scene, groups):
    listen_grid = make_grid_listener(world.frontend, world.encode_grid)

    def rolled(mask, features):
        return listen_grid(jnp.roll(mask, 1, axis=2), features)

    compare = agreement(world, batch, world.listen, rolled)
    assert abs(float(compare(groups, scene)["listening/corr"])) < 0.5


def test_identical_listeners_agree_fully(world, batch, scene, groups):
    metrics = agreement(world, batch, world.listen, world.listen)(groups, scene)
    np.testing.assert_allclose(metrics["listening/corr"], 1.0, atol=1e-4)
    assert metrics["listening/abs_difference"] == 0.0
    np.testing.assert_allclose(
        metrics["listening/first_mean"], metrics["listening/second_mean"], rtol=1e-6
    )


def test_joined_encoders_give_the_mean_of_their_cosines(world, batch, scene):
    """The second encoder hears the rows in another order and twice as loud."""

    def turned(log_mag):
        return 2.0 * jnp.roll(world.encode_grid(log_mag), 3, axis=-1) + 0.1

    first, second = (
        make_grid_listener(world.frontend, encode)
        for encode in (world.encode_grid, turned)
    )
    anchors = (world.anchor, lambda given: 3.0 * world.anchor(given)[..., ::-1])
    mask = np.random.default_rng(0).uniform(size=OPEN.shape).astype(np.float32)

    def score(listen, anchor):
        estimate = listen(mask, scene.features)
        context = RewardContext(anchor(batch), batch.target, np.ones((4, 2)))
        return cosine_reward()(estimate, context)

    joined = score(join_listeners([first, second]), join_anchors(anchors))
    apart = (score(first, anchors[0]) + score(second, anchors[1])) / 2
    np.testing.assert_allclose(joined, apart, atol=1e-6)
    assert float(np.abs(joined - score(first, anchors[0])).max()) > 0.05


def test_an_empty_ensemble_is_refused():
    with pytest.raises(ValueError, match="listeners is empty"):
        join_listeners([])
    with pytest.raises(ValueError, match="anchors is empty"):
        join_anchors([])
