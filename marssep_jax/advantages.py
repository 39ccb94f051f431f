"""From rewards to advantages (method section 4).

All are A~ = (R - baseline) / (deviation + eps) and differ in where baseline and
deviation come from. Targets that are not in the mixture (``active`` 0) get
advantage 0 and enter no statistic, whatever their reward is, NaN included.
Advantages are constants to the gradient.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marssep_jax.types import AdvantageFn

# Keeps a group of equal rewards quiet. Rewards of order 1 carry float32 rounding
# of 1e-7, a thousandth of this; the smallest deviation within a group that was
# seen on real masks, 1e-2 (independent bins, cosine), is a hundred times as large.
ADVANTAGE_EPS = 1e-4

Rewards = Float[Array, "b k g"]
Active = Float[Array, "b k"]


class MovingBaseline(NamedTuple):
    """Running mean of rewards: ``total / weight``, unbiased from the first step."""

    total: Float[Array, ""]
    weight: Float[Array, ""]


def _keep(values: Rewards, active: Active) -> Rewards:
    """Put 0 where a target is not active."""
    return jnp.where(active[:, :, None] > 0, values, 0.0)


def _batch_mean(values: Rewards, active: Active) -> Float[Array, ""]:
    """Average over the masks of active targets; 0 if there is none."""
    count = jnp.sum(active > 0) * values.shape[-1]
    return jnp.sum(_keep(values, active)) / jnp.maximum(count, 1)


def _batch_centred(values: Rewards, active: Active) -> Rewards:
    """Subtract the mean of the batch, and then what its rounding left.

    Where rewards hardly differ, dividing by their deviation blows that rest up.
    """
    once = values - _batch_mean(values, active)
    return once - _batch_mean(once, active)


def _batch_std(values: Rewards, active: Active) -> Float[Array, ""]:
    spread = values - _batch_mean(values, active)
    return jnp.sqrt(_batch_mean(spread**2, active))


def _scale(values: Rewards, deviation: Array, active: Active) -> Rewards:
    scaled = values / (deviation + ADVANTAGE_EPS)
    return jax.lax.stop_gradient(_keep(scaled, active))


def _finish(gain: Rewards, active: Active, scaled: bool) -> Rewards:
    if not scaled:
        return jax.lax.stop_gradient(_keep(gain, active))
    return _scale(gain, _batch_std(gain, active), active)


def _check_group(name: str, reward: Rewards) -> None:
    if reward.shape[-1] < 2:
        raise ValueError(
            f"group_size is {reward.shape[-1]}, expected >= 2 for the {name} advantage"
        )


def _stateless(apply: Any) -> AdvantageFn:
    return AdvantageFn(init=lambda: None, apply=apply)


def group_advantage() -> AdvantageFn:
    """Build A~ = (R - mean_g R) / (std_g R + eps), over one target's masks.

    Every group gets the same weight, also one whose rewards barely differ. The
    advantages of a group sum to 0.
    """

    def apply(reward: Rewards, active: Active, state: Any) -> tuple[Rewards, Any]:
        _check_group("group", reward)
        centred = reward - jnp.mean(reward, axis=-1, keepdims=True)
        deviation = jnp.std(reward, axis=-1, keepdims=True)
        return _scale(centred, deviation, active), state

    return _stateless(apply)


def leave_one_out_advantage(*, scaled: bool = True) -> AdvantageFn:
    """Build A = R_i - mean of the group's other rewards, over the batch's std.

    A baseline that does not contain R_i leaves the gradient unbiased. The
    deviation is one number for the batch: a group that learned little from its
    masks stays quiet, which ``group_advantage`` does not grant. The advantages
    of a group sum to 0.

    Args:
      scaled: divide by the deviation; without it A is in the reward's units, as an
        estimator that adds a slope needs it.
    """

    def apply(reward: Rewards, active: Active, state: Any) -> tuple[Rewards, Any]:
        _check_group("leave-one-out", reward)
        size = reward.shape[-1]
        # R_i - (S - R_i) / (G - 1) = (R_i - S / G) G / (G - 1)
        centred = reward - jnp.mean(reward, axis=-1, keepdims=True)
        gain = centred * (size / (size - 1))
        return _finish(gain, active, scaled), state

    return _stateless(apply)


def leave_pair_out_advantage(*, scaled: bool = True) -> AdvantageFn:
    """Build A = R_i - mean of the rewards of all pairs but its own.

    For antithetic groups, whose masks 2 i and 2 i + 1 are twins: a twin's reward
    depends on this mask, so that a baseline with it in would be biased.

    Args:
      scaled: divide by the batch's deviation.
    """

    def apply(reward: Rewards, active: Active, state: Any) -> tuple[Rewards, Any]:
        size = reward.shape[-1]
        if size < 4 or size % 2:
            raise ValueError(
                f"group_size is {size}, expected an even number >= 4 for the "
                "leave-pair-out advantage"
            )
        pair = jnp.sum(reward.reshape(*reward.shape[:-1], -1, 2), axis=-1)
        total = jnp.sum(reward, axis=-1, keepdims=True)
        others = (total - jnp.repeat(pair, 2, axis=-1)) / (size - 2)
        return _finish(reward - others, active, scaled), state

    return _stateless(apply)


def batch_advantage() -> AdvantageFn:
    """Build A~ = (R - mean R) / (std R + eps), over all masks of the batch.

    Most of the deviation is between targets, some being easier than others, which
    no mask can help: expect more variance than from a baseline per group.
    """

    def apply(reward: Rewards, active: Active, state: Any) -> tuple[Rewards, Any]:
        centred = _batch_centred(reward, active)
        return _scale(centred, _batch_std(reward, active), active), state

    return _stateless(apply)


def moving_average_advantage(
    decay: float = 0.92, *, recentre: bool = True
) -> AdvantageFn:
    """Build the paper's A = R - moving average, then (A - mean A) / (std A + eps).

    One consequence of normalising over the batch: the mean of A contains the
    baseline, so it cancels, and the result is ``batch_advantage`` to rounding.
    That is the paper's formula and the default. ``recentre=False`` leaves the
    mean in, A / (std A + eps), so that the baseline acts: a batch better than
    those before it is reinforced as a whole.

    Args:
      decay: weight of the past per step; 0.92 in the paper.
      recentre: subtract the batch's mean.

    Returns:
      The advantage; its state is a ``MovingBaseline``. The baseline of a batch is
      that of the batches before it, and in the first one its own mean.

    Raises:
      ValueError: decay outside [0, 1).
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"decay is {decay!r}, expected a number in [0, 1)")

    def init() -> MovingBaseline:
        return MovingBaseline(jnp.zeros(()), jnp.zeros(()))

    def apply(
        reward: Rewards, active: Active, state: MovingBaseline
    ) -> tuple[Rewards, MovingBaseline]:
        mean = _batch_mean(reward, active)
        past = state.total / jnp.maximum(state.weight, 1.0 - decay)
        gain = reward - jnp.where(state.weight > 0, past, mean)
        if recentre:
            gain = _batch_centred(gain, active)
        advanced = MovingBaseline(
            decay * state.total + (1.0 - decay) * mean,
            decay * state.weight + (1.0 - decay),
        )
        some = jnp.any(active > 0)  # a batch without targets says nothing
        state = jax.tree.map(
            lambda new, old: jnp.where(some, new, old), advanced, state
        )
        return _scale(gain, _batch_std(reward, active), active), state

    return AdvantageFn(init, apply)
