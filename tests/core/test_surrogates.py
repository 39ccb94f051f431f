import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marssep_jax.surrogates import (
    LOG_RATIO_LIMIT,
    RATIO_LEVELS,
    clipped_surrogate,
    policy_gradient,
)

KEYS = {"policy/clip_fraction", "policy/ratio_max", "policy/approx_kl"}
SURROGATES = [clipped_surrogate(0.2, level) for level in RATIO_LEVELS] + [
    policy_gradient()
]


def one_mask(ratios):
    """Log-ratios [1, 1, 1, H, W] of one mask."""
    return jnp.log(jnp.asarray(ratios, jnp.float32))[None, None, None]


def gain(value):
    return jnp.full((1, 1, 1), value, jnp.float32)


# With eps = 0.2, min(r A, clip(r, 0.8, 1.2) A):
#   r = 1.5, A = +1: min( 1.5,  1.2) =  1.2, on the plateau
#   r = 1.5, A = -1: min(-1.5, -1.2) = -1.5, not: a bad mask became likelier
#   r = 0.5, A = +1: min( 0.5,  0.8) =  0.5, not: a good mask became rarer
#   r = 0.5, A = -1: min(-0.5, -0.8) = -0.8, on the plateau
#   r = 1.1, A = +2: min( 2.2,  2.2) =  2.2, inside
# The slope in the log-ratio is r A off the plateau, 0 on it.
@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.5, 1.0, 1.2, 0.0),
        (1.5, -1.0, -1.5, -1.5),
        (0.5, 1.0, 0.5, 0.5),
        (0.5, -1.0, -0.8, 0.0),
        (1.1, 2.0, 2.2, 2.2),
    ],
)
@pytest.mark.parametrize("level", RATIO_LEVELS)
def test_ppo_by_hand(level, ratio, advantage, value, slope):
    # With a single bin the three levels are one.
    surrogate = jax.jit(jax.value_and_grad(clipped_surrogate(0.2, level), has_aux=True))
    (got, _), grad = surrogate(one_mask([[ratio]]), gain(advantage))
    np.testing.assert_allclose(got, value, rtol=1e-6)
    np.testing.assert_allclose(grad.item(), slope, rtol=1e-6)


# Ratios [[2, 1/2], [1, 4]], A = 1, eps = 0.2:
#   bin:   (min(2, 1.2) + min(0.5, 0.8) + 1 + min(4, 1.2)) / 4 = 3.9 / 4 = 0.975
#   mask:  (2 * 1/2 * 1 * 4)^(1/4) = sqrt(2), clipped to 1.2
#   joint: 2 * 1/2 * 1 * 4 = 4, clipped to 1.2
# and with A = -1:
#   bin:   (-2 - max(0.5, 0.8) - 1 - 4) / 4 = -7.8 / 4 = -1.95
#   mask:  -sqrt(2);  joint: -4
@pytest.mark.parametrize(
    ("level", "good", "bad", "outside", "largest"),
    [
        ("bin", 0.975, -1.95, 0.75, 4.0),
        ("mask", 1.2, -(2**0.5), 1.0, 2**0.5),
        ("joint", 1.2, -4.0, 1.0, 4.0),
    ],
)
def test_levels_by_hand(level, good, bad, outside, largest):
    log_ratio = one_mask([[2.0, 0.5], [1.0, 4.0]])
    surrogate = clipped_surrogate(0.2, level)
    value, metrics = surrogate(log_ratio, gain(1.0))
    np.testing.assert_allclose(value, good, rtol=1e-6)
    np.testing.assert_allclose(surrogate(log_ratio, gain(-1.0))[0], bad, rtol=1e-6)
    np.testing.assert_allclose(metrics["policy/clip_fraction"], outside, rtol=1e-6)
    np.testing.assert_allclose(metrics["policy/ratio_max"], largest, rtol=1e-6)
    # r - 1 - ln r: 0.306853 + 0.193147 + 0 + 1.613706 = 2.113706, over 4 bins.
    np.testing.assert_allclose(metrics["policy/approx_kl"], 2.113706 / 4, rtol=1e-5)


def test_masks_of_a_group_are_weighed_by_their_own_advantage():
    # Two masks of one bin: r = (1.1, 1.5), A = (2, -1): (2.2 - 1.5) / 2 = 0.35;
    # without ratios (2 ln 1.1 - ln 1.5) / 2 = (0.1906204 - 0.4054651) / 2.
    log_ratio = jnp.log(jnp.array([1.1, 1.5])).reshape(1, 1, 2, 1, 1)
    advantage = jnp.array([[[2.0, -1.0]]])
    value, metrics = clipped_surrogate(0.2, "bin")(log_ratio, advantage)
    np.testing.assert_allclose(value, 0.35, rtol=1e-6)
    np.testing.assert_allclose(metrics["policy/clip_fraction"], 0.5)
    value, metrics = policy_gradient()(log_ratio, advantage)
    np.testing.assert_allclose(value, -0.1074223, rtol=1e-5)
    np.testing.assert_allclose(metrics["policy/clip_fraction"], 0.0)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_start_of_an_update(surrogate):
    # Nothing moved yet: ratio 1, no clip, no divergence, J = mean advantage
    # (0 for the plain policy gradient).
    advantage = jax.random.normal(jax.random.key(0), (2, 3, 4))
    value, metrics = surrogate(jnp.zeros((2, 3, 4, 5, 6)), advantage)
    assert set(metrics) == KEYS
    assert metrics["policy/clip_fraction"] == 0.0
    assert metrics["policy/ratio_max"] == 1.0
    assert metrics["policy/approx_kl"] == 0.0
    expected = 0.0 if surrogate is SURROGATES[-1] else jnp.mean(advantage)
    # A float32 sum of 720 terms: relative rounding of 1e-5 at worst.
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("surrogate", "scale"), list(zip(SURROGATES, (1, 1, 30, 1), strict=True))
)
def test_gradient_at_the_start_has_the_documented_scale(surrogate, scale):
    # A / (B K G N) per bin, N = 30; N times as much at level "joint".
    advantage = jax.random.normal(jax.random.key(0), (2, 3, 4))
    zeros = jnp.zeros((2, 3, 4, 5, 6))
    grad = jax.grad(lambda log_ratio: surrogate(log_ratio, advantage)[0])(zeros)
    expected = np.broadcast_to(advantage[..., None, None], grad.shape)
    np.testing.assert_allclose(grad, expected * scale / grad.size, rtol=1e-5)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("log_ratio", [1e4, -1e4])
def test_runaway_ratios_stay_finite(surrogate, advantage, log_ratio):
    def objective(values):
        return surrogate(values, gain(advantage))

    values = jnp.full((1, 1, 1, 2, 2), log_ratio)
    (value, metrics), grad = jax.value_and_grad(objective, has_aux=True)(values)
    assert all(np.isfinite(each).all() for each in (value, grad, *metrics.values()))
    assert metrics["policy/ratio_max"] <= np.exp(LOG_RATIO_LIMIT) * (1 + 1e-5)


@pytest.mark.parametrize("level", RATIO_LEVELS)
@given(
    st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6),
    st.floats(-2, 2, width=32),
    st.floats(0.0625, 0.5, width=32),
)
@settings(max_examples=30, deadline=None)
def test_clipped_objective_is_a_lower_bound(level, logs, advantage, eps):
    # min() can only lower the unclipped E[r A]; for the mirrored advantage too.
    log_ratio = jnp.asarray(logs, jnp.float32).reshape(1, 1, 1, 2, 3)
    for sign in (1.0, -1.0):
        value, _ = clipped_surrogate(eps, level)(log_ratio, gain(sign * advantage))
        logs64 = np.asarray(logs, np.float64)
        level_log = {"bin": logs64, "mask": logs64.mean(), "joint": logs64.sum()}[level]
        free = np.mean(np.exp(level_log)) * sign * advantage
        assert value <= free + 1e-5 * (1 + abs(free))


def test_metrics_carry_no_gradient():
    def leak(log_ratio):
        return sum(clipped_surrogate()(log_ratio, gain(1.0))[1].values())

    grad = jax.grad(leak)(one_mask([[1.1, 2.0]]))
    np.testing.assert_array_equal(grad, 0.0)


# Ratio 9 of a bad mask costs -9 without a bound and -3, flat, with c = 3; good masks
# and smaller ratios are as they were.
@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [(9.0, -1.0, -3.0, 0.0), (2.0, -1.0, -2.0, -2.0), (9.0, 1.0, 1.2, 0.0)],
)
def test_dual_clip_by_hand(ratio, advantage, value, slope):
    surrogate = clipped_surrogate(0.2, dual_clip=3.0)
    run = jax.jit(jax.value_and_grad(surrogate, has_aux=True))
    (got, _), grad = run(one_mask([[ratio]]), gain(advantage))
    np.testing.assert_allclose(got, value, rtol=1e-6)
    np.testing.assert_allclose(grad.item(), slope, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip_eps": 0.0}, r"clip_eps is 0.0, expected a number in \(0, 1\)"),
        ({"clip_eps": 1.0}, "clip_eps is 1.0, expected"),
        ({"ratio_level": "token"}, "ratio_level is 'token', expected one of bin, mask"),
        ({"dual_clip": 1.0}, r"dual_clip is 1\.0, expected a number > 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        clipped_surrogate(**arguments)
