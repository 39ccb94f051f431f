"""Rollouts: what is drawn, what is stored, what is reported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.advantages import batch_advantage, group_advantage
from marssep_jax.estimators import pathwise_estimator
from marssep_jax.listening import make_grid_listener
from marssep_jax.policy import beta_policy
from marssep_jax.rewards import cosine_reward, si_sdr_reward
from marssep_jax.rollout import make_rollout, reward_metrics
from marssep_jax.types import AdvantageFn, RewardContext

pytestmark = pytest.mark.usefixtures("quick_compile")
GROUP = 5
POLICY = beta_policy()
PROPOSAL = jax.nn.sigmoid(
    np.random.default_rng(0).normal(size=(4, 2, 32, 16)).astype(np.float32)
)


def context(world, batch, scene, active=None):
    active = jnp.ones((4, 2)) if active is None else active
    return RewardContext(
        world.anchor(batch), batch.target, active, scene.target_magnitude
    )


def run(world, batch, scene, reward=None, listen=None, group=GROUP, **kwargs):
    reward = reward or cosine_reward()
    advantage = kwargs.pop("advantage", group_advantage())
    rollout = make_rollout(POLICY, listen or world.listen, reward, advantage, group)
    return jax.jit(rollout)(
        kwargs.pop("key", jax.random.key(0)),
        kwargs.pop("proposal", PROPOSAL),
        scene.features,
        context(world, batch, scene, **kwargs),
        advantage.init(),
    )


@pytest.fixture(scope="module")
def drawn(world, batch, scene):
    return run(world, batch, scene)


def test_shapes_and_support(drawn):
    rollout = drawn[0]
    assert rollout.mask.shape == (4, 2, GROUP, 32, 16)
    assert rollout.log_prob_old.shape == rollout.mask.shape
    assert rollout.reward.shape == rollout.advantage.shape == (4, 2, GROUP)
    assert bool(jnp.all((rollout.mask > 0) & (rollout.mask < 1)))
    assert bool(jnp.all(jnp.isfinite(rollout.log_prob_old)))


def test_group_is_drawn_around_each_own_proposal(drawn):
    # The mean of Beta(1 + kP, 1 + k(1 - P)) is (1 + 9 P) / 11.
    mask = drawn[0].mask
    mean = (1 + 9 * PROPOSAL) / 11
    # 20480 draws with standard deviations below 0.15: 4 standard errors.
    assert abs(float(jnp.mean(mask - mean[:, :, None]))) < 4 * 0.15 / 20480**0.5
    slope = jnp.sum((mask.mean(2) - mean.mean()) * (mean - mean.mean()))
    assert float(slope / jnp.sum((mean - mean.mean()) ** 2)) == pytest.approx(
        1, abs=0.1
    )


def test_masks_of_a_group_differ(drawn):
    mask = np.asarray(drawn[0].mask).reshape(4, 2, GROUP, -1)
    for i in range(GROUP):
        for j in range(i):
            corr = np.corrcoef(
                (mask[:, :, i] - mask.mean(2)).ravel(),
                (mask[:, :, j] - mask.mean(2)).ravel(),
            )[0, 1]
            # Centring G independent draws leaves -1 / (G - 1) = -0.25.
            assert corr == pytest.approx(-0.25, abs=0.1)


def test_sampling_is_a_function_of_the_key(world, batch, scene, drawn):
    again = run(world, batch, scene)[0]
    np.testing.assert_array_equal(again.mask, drawn[0].mask)
    other = run(world, batch, scene, key=jax.random.key(1))[0]
    assert float(jnp.mean(other.mask == drawn[0].mask)) < 0.01


def test_old_log_prob_is_the_policys(drawn):
    rollout = drawn[0]
    for g in range(GROUP):
        expected = POLICY.log_prob(PROPOSAL, rollout.mask[:, :, g])
        # float32 log-densities of order 1, fused in another way.
        np.testing.assert_allclose(rollout.log_prob_old[:, :, g], expected, atol=1e-4)


def test_reward_belongs_to_its_mask(world, batch, scene, drawn):
    rollout = drawn[0]
    estimate = jax.jit(world.listen)(rollout.mask[:, :, 3:4], scene.features)
    expected = cosine_reward()(estimate, context(world, batch, scene))
    np.testing.assert_allclose(rollout.reward[:, :, 3:4], expected, atol=1e-5)


def test_nothing_carries_a_gradient(world, batch, scene):
    rollout = make_rollout(POLICY, world.listen, cosine_reward(), group_advantage(), 2)

    def total(proposal):
        drawn, _, _ = rollout(
            jax.random.key(0),
            proposal,
            scene.features,
            context(world, batch, scene),
            (),
        )
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(drawn))

    assert not np.asarray(jax.jit(jax.grad(total))(PROPOSAL)).any()


def test_absent_targets_teach_nothing(world, batch, scene):
    raw = AdvantageFn(lambda: (), lambda reward, active, state: (reward, state))
    active = jnp.ones((4, 2)).at[1, 0].set(0.0)
    rollout, _, metrics = run(world, batch, scene, advantage=raw, active=active)
    assert not np.asarray(rollout.advantage[1, 0]).any()
    kept = np.asarray(active, bool)
    np.testing.assert_array_equal(rollout.advantage[kept], rollout.reward[kept])
    mean = np.asarray(rollout.reward)[kept].mean()
    np.testing.assert_allclose(metrics["reward/mean"], mean, rtol=1e-6)


def test_state_of_the_advantage_is_passed_on(world, batch, scene):
    counting = AdvantageFn(
        lambda: jnp.zeros(()), lambda reward, active, state: (reward, state + 1)
    )
    _, state, _ = run(world, batch, scene, advantage=counting)
    assert state == 1


def test_no_advantage_is_asked_where_rewards_have_no_weight(world, batch, scene):
    never = AdvantageFn(lambda: 3, lambda reward, active, state: 1 / 0)
    known = context(world, batch, scene)
    parts = POLICY, world.listen, cosine_reward(), never, 2
    rollout = make_rollout(*parts, pathwise_estimator(2))
    inputs = PROPOSAL, scene.features, known, never.init()
    found, state, _ = rollout(jax.random.key(0), *inputs)
    assert (found.advantage, state) == (None, 3)
    assert found.slope.shape == PROPOSAL.shape


def test_spread_within_and_between_by_hand():
    # Groups (0, 2) and (4, 8), and one absent: means 1 and 6, deviations 1 and 2.
    reward = jnp.array([[[0.0, 2.0], [4.0, 8.0], [50.0, 90.0]]])
    metrics = reward_metrics(reward, jnp.array([[1.0, 1.0, 0.0]]))
    np.testing.assert_allclose(metrics["reward/mean"], 3.5)
    np.testing.assert_allclose(metrics["reward/std_in_group"], 1.5)
    np.testing.assert_allclose(metrics["reward/std_between_prompts"], 2.5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_correlation_with_si_sdr(world, batch, scene, sign):
    metrics = run(world, batch, scene, si_sdr_reward(sign * 0.05))[2]
    np.testing.assert_allclose(metrics["reward/corr_si_sdr"], sign, atol=1e-3)
    np.testing.assert_allclose(
        metrics["reward/mean"], sign * 0.05 * metrics["reward/si_sdr_db"], rtol=1e-4
    )


def test_correlation_on_the_grid_without_waveforms(world, batch, scene):
    listen = make_grid_listener(world.frontend, world.encode_grid)
    metrics = run(world, batch, scene, listen=listen)[2]
    assert "reward/corr_si_sdr" not in metrics
    # A mask that lets more of the target through scores better on both.
    assert float(metrics["reward/corr_si_sdr_grid"]) > 0.3


def test_one_mask_has_no_correlation(world, batch, scene):
    metrics = run(world, batch, scene, group=1, advantage=batch_advantage())[2]
    assert "reward/corr_si_sdr" not in metrics
    assert metrics["reward/std_in_group"] == 0.0


def test_entropy_is_that_of_the_active_proposals(world, batch, scene):
    active = jnp.ones((4, 2)).at[:, 1].set(0.0)
    metrics = run(world, batch, scene, active=active)[2]
    expected = jnp.mean(POLICY.entropy(PROPOSAL[:, 0]))
    np.testing.assert_allclose(metrics["policy/entropy"], expected, rtol=1e-4)


def test_group_size_is_checked(world):
    with pytest.raises(ValueError, match="group_size is 0, expected >= 1"):
        make_rollout(POLICY, world.listen, cosine_reward(), group_advantage(), 0)
