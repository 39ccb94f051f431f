import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from marssep_jax.advantages import (
    ADVANTAGE_EPS,
    batch_advantage,
    group_advantage,
    leave_one_out_advantage,
    moving_average_advantage,
)

MAKERS = {
    "group": group_advantage,
    "leave_one_out": leave_one_out_advantage,
    "batch": batch_advantage,
    "moving_average": moving_average_advantage,
}
SHAPE = (2, 2, 3)
ALL = jnp.ones(SHAPE[:2])
rewards = hnp.arrays(
    np.float32, SHAPE, elements=st.floats(-1, 1, width=32, allow_subnormal=False)
)
APPLY = {name: jax.jit(make().apply) for name, make in MAKERS.items()}


def advantage_of(name, reward, active=ALL, state=None):
    state = MAKERS[name]().init() if state is None else state
    return APPLY[name](jnp.asarray(reward, jnp.float32), jnp.asarray(active), state)[0]


# Two targets with rewards (1, 3) and (10, 14).
REWARD = np.array([[[1.0, 3.0], [10.0, 14.0]]])
BOTH = jnp.ones((1, 2))


# group: means 2 and 12, deviations 1 and 2: (-1, 1) and (-1, 1).
# leave-one-out: 1 - 3, 3 - 1, 10 - 14, 14 - 10 = (-2, 2), (-4, 4); deviation of
#   the four sqrt((4 + 4 + 16 + 16) / 4) = sqrt(10).
# batch: mean 7, deviation sqrt((36 + 16 + 9 + 49) / 4) = sqrt(27.5).
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("group", [[-1, 1], [-1, 1]]),
        ("leave_one_out", np.array([[-2, 2], [-4, 4]]) / 10**0.5),
        ("batch", np.array([[-6, -4], [3, 7]]) / 27.5**0.5),
        ("moving_average", np.array([[-6, -4], [3, 7]]) / 27.5**0.5),
    ],
)
def test_numbers_by_hand(name, expected):
    # ADVANTAGE_EPS is 1e-4 of the smallest deviation here.
    got = advantage_of(name, REWARD, BOTH)
    np.testing.assert_allclose(got, np.array([expected]), rtol=1.1e-4)


@pytest.mark.parametrize("name", ["batch", "moving_average", "leave_one_out"])
def test_inactive_targets_enter_no_batch_statistic(name):
    # Without the second target: mean 2, deviation 1; leave-one-out (-2, 2) over 2.
    for unheard in (1e6, np.nan, np.inf):
        reward = REWARD.copy()
        reward[0, 1] = unheard
        got = advantage_of(name, reward, [[1.0, 0.0]])
        np.testing.assert_allclose(got, [[[-1, 1], [0, 0]]], rtol=1.1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_inactive_targets_get_exactly_zero(name):
    active = np.array([[1.0, 0.0], [0.0, 1.0]])
    reward = np.random.default_rng(0).normal(size=SHAPE)
    reward[0, 1] = np.nan
    got = advantage_of(name, reward, active)
    np.testing.assert_array_equal(got[active == 0], 0.0)
    assert np.isfinite(got).all()
    assert (np.abs(got[active == 1]).max(axis=-1) > 0).all()


@pytest.mark.parametrize("name", MAKERS)
def test_batch_without_any_target(name):
    got = advantage_of(name, np.full(SHAPE, np.nan), np.zeros(SHAPE[:2]))
    np.testing.assert_array_equal(got, 0.0)


@pytest.mark.parametrize("name", ["group", "leave_one_out"])
@given(rewards)
@settings(max_examples=30, deadline=None)
def test_group_sums_to_zero(name, reward):
    total = np.sum(advantage_of(name, reward), axis=-1)
    # The mean of a group is off by 1e-7 at most; the smallest divisor, eps, makes
    # 1e-3 of it, three times.
    np.testing.assert_allclose(total, 0.0, atol=3e-3)


@pytest.mark.parametrize("name", ["batch", "moving_average"])
@given(rewards)
@settings(max_examples=30, deadline=None)
def test_batch_sums_to_zero(name, reward):
    # As above for twelve, whose mean may be off by 1.5e-7.
    np.testing.assert_allclose(np.sum(advantage_of(name, reward)), 0.0, atol=0.02)


@pytest.mark.parametrize("name", MAKERS)
@given(rewards, st.floats(0.5, 8, width=32), st.floats(-4, 4, width=32))
@settings(max_examples=30, deadline=None)
def test_gain_and_shift_do_not_matter(name, reward, gain, shift):
    assume(np.std(reward, axis=-1).min() > 0.05)
    got = advantage_of(name, gain * reward + shift)
    # eps does not scale along: it makes 1e-4 / (0.05 * 0.5) = 4e-3 of advantages
    # of at most 3.3 (sqrt(11): one of twelve stands out).
    np.testing.assert_allclose(got, advantage_of(name, reward), atol=0.014)


@pytest.mark.parametrize("name", MAKERS)
@given(rewards, st.integers(0, SHAPE[-1] - 1))
@settings(max_examples=20, deadline=None)
def test_masks_of_a_group_are_interchangeable(name, reward, roll):
    rolled = advantage_of(name, np.roll(reward, roll, axis=-1))
    expected = np.roll(advantage_of(name, reward), roll, axis=-1)
    # Another order of summation, over eps at worst.
    np.testing.assert_allclose(rolled, expected, atol=3e-3)


@pytest.mark.parametrize("name", MAKERS)
def test_equal_rewards_teach_nothing(name):
    # 0.3 is not a float32: the mean of three may be off by a rounding, 3e-8,
    # which eps keeps below 1e-3.
    got = advantage_of(name, np.full(SHAPE, 0.3))
    np.testing.assert_allclose(got, 0.0, atol=3e-8 / ADVANTAGE_EPS)


def test_quiet_group_is_loud_only_in_group_advantage():
    # The second group varies a hundredth as much as the first.
    reward = np.array([[[0.0, 1.0], [0.5, 0.51]]])
    alone = np.abs(advantage_of("group", reward, BOTH)[0, 1]).max()
    shared = np.abs(advantage_of("leave_one_out", reward, BOTH)[0, 1]).max()
    assert alone > 0.9
    assert shared < 0.02


@pytest.mark.parametrize("name", MAKERS)
def test_advantage_carries_no_gradient(name):
    reward = jax.random.normal(jax.random.key(0), SHAPE)
    grad = jax.grad(lambda r: jnp.sum(advantage_of(name, r) ** 2))(reward)
    np.testing.assert_array_equal(grad, 0.0)


def test_moving_average_follows_the_rewards():
    # Batch means 2, 6 and 6 with decay 0.5: the baseline is 2 in the first batch
    # (its own), then 2, then (0.25 * 2 + 0.5 * 6) / 0.75 = 14 / 3.
    advantage = moving_average_advantage(0.5, recentre=False)
    state = advantage.init()
    levels = []
    for mean in (2.0, 6.0, 6.0):
        reward = jnp.array([[[mean - 1.0, mean + 1.0]]])
        gain, state = advantage.apply(reward, jnp.ones((1, 1)), state)
        levels.append(float(jnp.mean(gain)))
    # The deviation is 1 each time.
    np.testing.assert_allclose(levels, [0.0, 4.0, 6 - 14 / 3], rtol=2e-4, atol=1e-6)


def test_paper_formula_cancels_its_baseline():
    advantage, reward = moving_average_advantage(0.92), jnp.asarray(REWARD)
    _, state = advantage.apply(reward + 100.0, BOTH, advantage.init())
    got, _ = advantage.apply(reward, BOTH, state)
    # Rounding at 100, 8e-6, over a deviation of 5.
    np.testing.assert_allclose(got, advantage_of("batch", REWARD, BOTH), atol=1e-5)


def test_moving_average_ignores_what_is_not_there():
    advantage = moving_average_advantage(0.5)
    reward = jnp.array([[[1.0, 3.0], [jnp.nan, 50.0]]])
    active = jnp.array([[1.0, 0.0]])
    _, state = advantage.apply(reward, active, advantage.init())
    np.testing.assert_allclose(state.total / state.weight, 2.0)
    _, after = advantage.apply(reward, jnp.zeros((1, 2)), state)
    assert after == state


@pytest.mark.parametrize("name", ["group", "leave_one_out"])
def test_one_mask_is_no_group(name):
    with pytest.raises(ValueError, match="group_size is 1, expected >= 2"):
        MAKERS[name]().apply(jnp.zeros((1, 1, 1)), jnp.ones((1, 1)), None)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_is_checked(decay):
    with pytest.raises(ValueError, match=r"decay is .*, expected a number in"):
        moving_average_advantage(decay)
