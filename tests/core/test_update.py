"""The two jitted updates: mechanics, invariants, errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marssep_jax.advantages import group_advantage, moving_average_advantage
from marssep_jax.objectives import make_supervised_objective
from marssep_jax.policy import beta_policy
from marssep_jax.presets import PAPER
from marssep_jax.rewards import cosine_reward
from marssep_jax.state import create_state, snapshot, with_reference
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.update import make_policy_update, make_supervised_update

pytestmark = pytest.mark.usefixtures("quick_compile")
TX = optax.adam(0.05)


def new_state(world, seed=0, advantage=None):
    advantage = advantage or group_advantage()
    return create_state(jax.random.key(seed), world.init_params(), {}, TX, advantage)


def policy_update(world, **kwargs):
    parts = {
        "separator": world.separator,
        "frontend": world.frontend,
        "policy": beta_policy(),
        "listen": world.listen,
        "anchor": world.anchor,
        "reward": cosine_reward(),
        "advantage": group_advantage(),
        "surrogate": clipped_surrogate(0.2, "bin"),
        "tx": TX,
        "group_size": 3,
        "entropy_coef": 0.0,
    }
    return make_policy_update(**(parts | kwargs))


@pytest.fixture(scope="module")
def update(world):
    """The default update, compiled once."""
    return policy_update(world)


@pytest.fixture(scope="module")
def two_epochs(world):
    """The same with a second inner epoch."""
    return policy_update(world, inner_epochs=2)


def test_supervised_update_learns_the_mask(world, batch):
    update = make_supervised_update(
        world.separator, world.frontend, make_supervised_objective(), TX
    )
    state, first = update(new_state(world), batch)
    for _ in range(30):
        state, last = update(state, batch)
    assert float(last["supervised/loss"]) < 0.7 * float(first["supervised/loss"])
    assert int(state.step) == 31
    assert float(first["grad/norm"]) > 0
    # Adam's first step has the size of the learning rate in every coordinate.
    rows = state.params["kernel"].shape
    assert float(first["update/norm"]) <= 0.05 * np.sqrt(np.prod(rows)) * 1.001


def test_supervised_update_carries_model_state(world, batch):
    def separator(params, model_state, log_mag, query, *, train=False):
        logits, _ = world.separator(params, {}, log_mag, query)
        return logits, {"count": model_state["count"] + (1 if train else 100)}

    update = make_supervised_update(
        separator, world.frontend, make_supervised_objective(), TX
    )
    state = create_state(
        jax.random.key(0), world.init_params(), {"count": jnp.zeros(())}, TX
    )
    state, _ = update(state, batch)
    assert state.model_state["count"] == 1.0


def test_ratio_is_one_and_kl_zero_before_the_first_step(world, batch, update):
    state = new_state(world)
    for _ in range(3):
        state, metrics = update(state, batch)
        # log pi of order 1 a bin, computed twice in float32.
        assert float(metrics["policy/log_ratio_start"]) < 1e-5
        assert float(metrics["policy/log_ratio_max"]) < 1e-5
        assert abs(float(metrics["policy/kl_old"])) < 1e-6
        assert float(metrics["policy/clip_fraction"]) == 0.0
        assert float(metrics["update/norm"]) > 0


def test_ratio_leaves_one_in_later_epochs(world, batch, two_epochs):
    state, metrics = two_epochs(new_state(world), batch)
    # log pi of order 1 a bin, computed twice in float32.
    assert float(metrics["policy/log_ratio_start"]) < 1e-5
    assert float(metrics["policy/log_ratio_max"]) > 0.01
    assert float(metrics["policy/kl_old"]) > 1e-5
    assert int(state.step) == 1


def test_inner_epochs_stay_on_one_rollout(world, batch, update, two_epochs):
    """Two epochs must equal one update, then one more on the same masks.

    Built from the parts: the second gradient is taken at the moved parameters
    against the masks and log-probabilities of the first.
    """
    state, one = policy_update(world, inner_epochs=1)(new_state(world), batch)
    _, two = two_epochs(new_state(world), batch)
    _, fresh = update(state, batch)
    for name in ("reward/mean", "reward/std_in_group"):
        np.testing.assert_array_equal(one[name], two[name])
        assert one[name] != fresh[name]
    assert float(two["policy/log_ratio_max"]) > 100 * float(
        fresh["policy/log_ratio_max"]
    )


def test_a_target_divergence_ends_the_inner_epochs(world, batch):
    """Every step moves by far more than the target, so the first is the only one."""
    once, _ = policy_update(world, inner_epochs=1)(new_state(world), batch)
    held = policy_update(world, inner_epochs=3, kl_target=1e-6)
    state, metrics = held(new_state(world), batch)
    chex.assert_trees_all_close(state.params, once.params, atol=1e-6)
    assert float(metrics["policy/stopped"]) == 1.0


def test_scanned_epochs_equal_unrolled_ones(world, batch, monkeypatch):
    """What an accelerator runs, against what a CPU runs."""
    unrolled, ours = policy_update(world, inner_epochs=3)(new_state(world), batch)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    scanned, theirs = policy_update(world, inner_epochs=3)(new_state(world), batch)
    # Adam divides by the gradient's size: rounding of small ones is amplified.
    chex.assert_trees_all_close(unrolled.params, scanned.params, atol=1e-4)
    chex.assert_trees_all_close(ours, theirs, atol=1e-4)


def test_refresh_at_every_step_needs_no_old_params(world, batch, two_epochs):
    """A lagging sampler that is refreshed by hand is the default path."""
    lagging = policy_update(world, old_refresh=2, inner_epochs=2)
    first, _ = lagging(snapshot(new_state(world)), batch)
    second, _ = two_epochs(new_state(world), batch)
    chex.assert_trees_all_close(first.params, second.params, atol=1e-6)
    assert second.old_params is None


def test_lagging_sampler_is_kept_between_refreshes(world, batch):
    update = policy_update(world, old_refresh=2)
    start = jax.tree.map(np.asarray, new_state(world).params)
    state, first = update(snapshot(new_state(world)), batch)
    chex.assert_trees_all_equal(state.old_params, start)
    state, second = update(state, batch)  # step 1: still the first sampler
    chex.assert_trees_all_equal(state.old_params, start)
    assert float(first["policy/kl_old"]) < 1e-6 < float(second["policy/kl_old"])
    moved = jax.tree.map(np.array, state.params)
    state, third = update(state, batch)  # step 2: refreshed
    chex.assert_trees_all_equal(state.old_params, moved)
    assert float(third["policy/kl_old"]) < 1e-6


def test_kl_to_the_supervised_start_is_monitored_and_holds(world, batch):
    drift = {}
    for coef in (0.0, 100.0):
        update = policy_update(world, kl_ref_coef=coef)
        state = with_reference(new_state(world))
        for _ in range(8):
            state, metrics = update(state, batch)
        drift[coef] = float(metrics["policy/kl_ref"])
    assert 0.0 < drift[100.0] < 0.2 * drift[0.0]


def test_entropy_bonus_pulls_to_the_middle(world, batch):
    params = jax.tree.map(lambda leaf: leaf + 2.0, world.init_params())
    state = create_state(jax.random.key(0), params, {}, TX, group_advantage())
    update = policy_update(world, entropy_coef=100.0)
    state, first = update(state, batch)
    for _ in range(5):
        state, last = update(state, batch)
    assert float(last["policy/entropy"]) > float(first["policy/entropy"]) + 0.01


def test_absent_query_is_left_alone(world):
    """Query 2 is absent: its own row of weights gets no policy gradient."""
    mixture = world.batch(jax.random.key(1), 4, 1)
    for coef, moves in ((0.0, False), (1.0, True)):
        update = policy_update(
            world,
            supervised_coef=coef,
            objective=make_supervised_objective(),
            entropy_coef=0.1,
        )
        state, _ = update(new_state(world), mixture)
        kernel = np.asarray(state.params["kernel"])
        assert kernel[:2].any()
        assert kernel[2].any() == moves


def test_objective_without_weight_is_only_reported(world, batch, update):
    plain, _ = update(new_state(world), batch)
    watched, metrics = policy_update(world, objective=make_supervised_objective())(
        new_state(world), batch
    )
    chex.assert_trees_all_close(plain.params, watched.params, atol=1e-7)
    assert float(metrics["supervised/loss"]) > 0


def test_moving_average_is_carried(world, batch):
    advantage = moving_average_advantage(PAPER.baseline_decay)
    update = policy_update(world, advantage=advantage, group_size=PAPER.group_size)
    state = new_state(world, advantage=advantage)
    before = jax.tree.map(np.array, state.advantage_state)
    state, metrics = update(state, batch)
    changed = jax.tree.map(
        lambda a, b: bool(np.any(a != b)), before, state.advantage_state
    )
    assert any(jax.tree.leaves(changed))
    assert float(metrics["grad/norm"]) > 0


def test_policy_update_compiles_once_freezes_statistics_and_donates(world, batch):
    def separator(params, model_state, log_mag, query, *, train=False):
        assert not train, "statistics must not move in the policy stage"
        logits, _ = world.separator(params, {}, log_mag, query)
        return logits, {"count": model_state["count"] + 100}

    # One trace for the first epoch, one for the second; none in later updates.
    traced = chex.assert_max_traces(separator, n=2)
    update = policy_update(world, separator=traced, inner_epochs=2)
    start = {"count": jnp.zeros(())}
    donated = create_state(
        jax.random.key(0), world.init_params(), start, TX, group_advantage()
    )
    state, _ = update(donated, batch)
    for _ in range(2):
        state, _ = update(state, batch)
    assert state.model_state["count"] == 0.0
    assert jax.tree.leaves(donated.params)[0].is_deleted()


def test_every_state_can_be_donated_again_and_again(world, batch):
    update = policy_update(world, old_refresh=2)
    state = with_reference(snapshot(new_state(world)))
    for _ in range(3):
        state, _ = update(state, batch)
    # Taken from a running state, which the next update donates.
    state, metrics = update(with_reference(snapshot(state)), batch)
    chex.assert_tree_all_finite(metrics)


def test_creation_leaves_the_callers_arrays_alone(world, batch, update):
    key, params = jax.random.key(0), world.init_params()
    state = create_state(key, params, {}, TX, group_advantage())
    update(state, batch)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((key, params)))


def test_same_seed_same_step(world, batch, update):
    first, _ = update(new_state(world, 3), batch)
    second, _ = update(new_state(world, 3), batch)
    other, _ = update(new_state(world, 4), batch)
    chex.assert_trees_all_equal(first.params, second.params)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(first.params, other.params, atol=1e-6)


def test_metrics_are_named_scalars(world, batch, two_epochs):
    _, metrics = two_epochs(new_state(world), batch)
    for name, value in metrics.items():
        assert name.count("/") == 1, name
        assert jnp.shape(value) == (), name
    assert metrics.keys() >= {
        "reward/mean", "reward/std_in_group", "reward/std_between_prompts",
        "reward/corr_si_sdr", "policy/entropy", "policy/kl_old", "policy/loss",
        "policy/clip_fraction", "grad/norm", "update/norm",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"inner_epochs": 0}, r"\(inner_epochs, old_refresh\) is \(0, 1\)"),
        ({"old_refresh": 0}, r"\(inner_epochs, old_refresh\) is \(1, 0\)"),
        ({"supervised_coef": 0.5}, "objective is None, expected a loss"),
    ],
)
def test_numbers_are_checked(world, kwargs, message):
    with pytest.raises(ValueError, match=message):
        policy_update(world, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"old_refresh": 2}, r"state\.old_params is None, expected snapshot"),
        ({"kl_ref_coef": 0.1}, r"state\.ref_params is None, expected with_reference"),
    ],
)
def test_states_are_checked(world, batch, kwargs, message):
    with pytest.raises(ValueError, match=message):
        policy_update(world, **kwargs)(new_state(world), batch)
