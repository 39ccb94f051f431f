"""Draw a group of masks from the old policy and score it (method section 4)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.metrics import si_sdr
from marssep_jax.rewards import active_mean, estimate_si_sdr, group_correlation
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


def sample_group(
    policy: MaskPolicy,
    key: PRNGKeyArray,
    proposal: Float[Array, "b k h w"],
    group_size: int,
) -> Float[Array, "b k g h w"]:
    """Draw G masks per proposal, one key each."""
    keys = jax.random.split(key, group_size)
    return jax.vmap(policy.sample, in_axes=(0, None), out_axes=2)(keys, proposal)


def group_log_prob(
    policy: MaskPolicy,
    proposal: Float[Array, "b k h w"],
    mask: Float[Array, "b k g h w"],
) -> Float[Array, "b k g h w"]:
    """Return the per-bin log-density of every mask of the group.

    The proposal is not tiled: its normaliser is computed once for all G.
    """
    return jax.vmap(policy.log_prob, in_axes=(None, 2), out_axes=2)(proposal, mask)


def grid_si_sdr(
    mask: Float[Array, "b k g h w"],
    mixture_magnitude: Float[Array, "b h w"],
    target_magnitude: Float[Array, "b k h w"],
) -> Float[Array, "b k g"]:
    """Return the SI-SDR in dB of masked against target magnitudes on the grid.

    A stand-in for the SI-SDR of waveforms where none were reconstructed: it
    ignores phase and counts rows of the warped axis alike.
    """
    estimate = mask * mixture_magnitude[:, None, None]
    estimate = estimate.reshape(*estimate.shape[:3], -1)
    target = target_magnitude.reshape(*target_magnitude.shape[:2], 1, -1)
    return si_sdr(estimate, jnp.broadcast_to(target, estimate.shape))


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


def _monitor(
    drawn: Rollout, estimate: Estimate, features: Features, context: RewardContext
) -> Metrics:
    metrics = reward_metrics(drawn.reward, context.active)
    if estimate.waveform is not None:
        quality = estimate_si_sdr(estimate, context)
        return metrics | quality_metrics(drawn.reward, quality, context.active)
    if context.target_magnitude is not None:
        quality = grid_si_sdr(
            drawn.mask, features.grid_magnitude, context.target_magnitude
        )
        quality = jnp.where(context.active[:, :, None] > 0, quality, 0.0)
        return metrics | quality_metrics(drawn.reward, quality, context.active, "_grid")
    return metrics


def make_rollout(
    policy: MaskPolicy,
    listen: ListenFn,
    reward: RewardFn,
    advantage: AdvantageFn,
    group_size: int,
) -> RolloutFn:
    """Build the function that samples, listens, rewards and normalises.

    Args:
      policy: distribution of masks around a proposal.
      listen: mask -> what the reward's encoder hears.
      reward: estimate -> one scalar per mask.
      advantage: rewards -> advantages, with its running state.
      group_size: masks G drawn per target.

    Returns:
      ``rollout(key, proposal_old, features, context, advantage_state) ->
      (Rollout, advantage_state, metrics)``. Nothing in it carries a gradient.

    Raises:
      ValueError: fewer than one mask.
    """
    if group_size < 1:
        raise ValueError(f"group_size is {group_size}, expected >= 1")

    def rollout(
        key: PRNGKeyArray,
        proposal_old: Float[Array, "b k h w"],
        features: Features,
        context: RewardContext,
        advantage_state: Any,
    ) -> tuple[Rollout, Any, Metrics]:
        # The score-function estimator differentiates log pi alone: neither the
        # sampler's reparameterisation nor the reward may add a path of its own.
        proposal_old = jax.lax.stop_gradient(proposal_old)
        mask = jax.lax.stop_gradient(
            sample_group(policy, key, proposal_old, group_size)
        )
        estimate = listen(mask, features)
        score = jax.lax.stop_gradient(reward(estimate, context))
        gain, advantage_state = advantage.apply(score, context.active, advantage_state)
        # Whatever the normalisation did: an absent target teaches nothing here.
        present = context.active[:, :, None] > 0
        gain = jax.lax.stop_gradient(jnp.where(present, gain, 0.0))
        drawn = Rollout(
            mask=mask,
            log_prob_old=group_log_prob(policy, proposal_old, mask),
            proposal_old=proposal_old,
            reward=score,
            advantage=gain,
        )
        metrics = _monitor(drawn, estimate, features, context)
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
