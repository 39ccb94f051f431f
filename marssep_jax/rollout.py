"""Draw a group of masks from the old policy and score it (method section 4)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.estimators import Estimator, score_estimator
from marssep_jax.rewards import (
    active_mean,
    estimate_si_sdr,
    group_correlation,
    has_si_sdr,
)
from marssep_jax.types import (
    AdvantageFn,
    Estimate,
    Features,
    ListenFn,
    MaskPolicy,
    Metrics,
    RewardContext,
    RewardFn,
    Rollout,
)

RolloutFn = Callable[..., tuple[Rollout, Any, Metrics]]


def group_log_prob(
    policy: MaskPolicy,
    proposal: Float[Array, "b k h w"],
    mask: Float[Array, "b k g h w"],
) -> Float[Array, "b k g h w"]:
    """Return the per-bin log-density of every mask of the group.

    The proposal is not tiled: its normaliser is computed once for all G.
    """
    return jax.vmap(policy.log_prob, in_axes=(None, 2), out_axes=2)(proposal, mask)


def quality_metrics(
    reward: Float[Array, "b k g"],
    quality: Float[Array, "b k g"],
    active: Float[Array, "b k"],
    suffix: str = "",
) -> Metrics:
    """Say how good the sampled masks are, and whether the reward knows it.

    The correlation is within groups, so it needs two masks a group and is left
    out otherwise.
    """
    level = active_mean(jnp.mean(quality, axis=-1), active)
    metrics = {f"reward/si_sdr{suffix}_db": level}
    if reward.shape[-1] > 1:
        correlation = group_correlation(reward, quality, active)
        metrics[f"reward/corr_si_sdr{suffix}"] = correlation
    return metrics


def reward_metrics(
    reward: Float[Array, "b k g"], active: Float[Array, "b k"]
) -> Metrics:
    """Describe a group's rewards; absent targets do not count."""
    level = jnp.mean(reward, axis=-1)
    centred = level - active_mean(level, active)
    return {
        "reward/mean": active_mean(level, active),
        "reward/std_in_group": active_mean(jnp.std(reward, axis=-1), active),
        "reward/std_between_prompts": jnp.sqrt(active_mean(centred**2, active)),
    }


def _monitor(drawn: Rollout, estimate: Estimate, context: RewardContext) -> Metrics:
    metrics = reward_metrics(drawn.reward, context.active)
    if not has_si_sdr(estimate, context):
        return metrics
    suffix = "_grid" if estimate.waveform is None else ""
    quality = estimate_si_sdr(estimate, context)
    return metrics | quality_metrics(drawn.reward, quality, context.active, suffix)


def make_rollout(
    policy: MaskPolicy,
    listen: ListenFn,
    reward: RewardFn,
    advantage: AdvantageFn,
    group_size: int,
    estimator: Estimator | None = None,
) -> RolloutFn:
    """Build the function that samples, listens, rewards and normalises.

    Args:
      policy: distribution of masks around a proposal.
      listen: mask -> what the reward's encoder hears.
      reward: estimate -> one scalar per mask.
      advantage: rewards -> advantages, with its running state; not asked where the
        estimator gives rewards no weight.
      group_size: masks G drawn per target.
      estimator: way to the gradient, with a group size of its own; the score
        function by default.

    Returns:
      ``rollout(key, proposal_old, features, context, advantage_state) ->
      (Rollout, advantage_state, metrics)``. Nothing in it carries a gradient.

    Raises:
      ValueError: fewer than one mask.
    """
    estimator = estimator or score_estimator(group_size)

    def rollout(
        key: PRNGKeyArray,
        proposal_old: Float[Array, "b k h w"],
        features: Features,
        context: RewardContext,
        advantage_state: Any,
    ) -> tuple[Rollout, Any, Metrics]:
        # What an estimator knows of the gradient it says in its slope: no path of the
        # sampler or the reward may add itself to that of log pi.
        proposal_old = jax.lax.stop_gradient(proposal_old)

        def hear(mask: Float[Array, "b k g h w"]) -> tuple[Array, Estimate]:
            estimate = listen(mask, features)
            return reward(estimate, context), estimate

        told = estimator(policy, key, proposal_old, hear)
        found = jax.lax.stop_gradient(told)
        # Whatever the normalisation did: an absent target teaches nothing here.
        present = context.active[:, :, None] > 0
        gain = None
        if told.weight:
            gain, advantage_state = advantage.apply(
                found.credit, context.active, advantage_state
            )
            gain = jax.lax.stop_gradient(found.weight * jnp.where(present, gain, 0.0))
        slope = found.slope
        if slope is not None:
            slope = jnp.where(present[..., None], slope, 0.0)
        drawn = Rollout(
            mask=found.mask,
            log_prob_old=group_log_prob(policy, proposal_old, found.mask),
            proposal_old=proposal_old,
            reward=found.reward,
            advantage=gain,
            slope=slope,
        )
        metrics = _monitor(drawn, found.estimate, context)
        entropy = jnp.mean(policy.entropy(proposal_old), axis=(-2, -1))
        metrics["policy/entropy"] = active_mean(entropy, context.active)
        return drawn, advantage_state, metrics

    return rollout


def listener_agreement(
    first: ListenFn, second: ListenFn, reward: RewardFn
) -> Callable[..., Metrics]:
    """Build the comparison of two listeners on the same masks.

    Args:
      first: usually the waveform listener.
      second: usually the grid listener.
      reward: reward that both feed.

    Returns:
      ``compare(mask [b k g h w], features, context) -> metrics``: the mean
      within-group correlation of the two rewards, their mean absolute
      difference, and the mean of either.
    """

    def compare(
        mask: Float[Array, "b k g h w"], features: Features, context: RewardContext
    ) -> Metrics:
        a, b = (reward(f(mask, features), context) for f in (first, second))
        gap = jnp.mean(jnp.abs(a - b), axis=-1)
        return {
            "listening/corr": group_correlation(a, b, context.active),
            "listening/abs_difference": active_mean(gap, context.active),
            "listening/first_mean": active_mean(a.mean(axis=-1), context.active),
            "listening/second_mean": active_mean(b.mean(axis=-1), context.active),
        }

    return compare
