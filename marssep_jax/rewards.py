"""Rewards of sampled masks (method section 2), and how two rewards agree.

A reward maps what the encoder heard and what it should have heard to one scalar
per sampled mask. Any weighted sum of rewards is again a reward.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from marssep_jax.metrics import si_sdr
from marssep_jax.types import Estimate, RewardContext, RewardFn

# A silent estimate may embed to (almost) nothing; its cosine is then 0.
NORM_FLOOR = 1e-6
# A group whose scores vary less than this says nothing about order. Rounding of
# float32 scores near 1 alone gives a variance of about 1e-15.
VARIANCE_FLOOR = 1e-12


def _unit(vector: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    norm = jnp.linalg.norm(vector, axis=-1, keepdims=True)
    return vector / jnp.maximum(norm, NORM_FLOOR)


def cosine_reward() -> RewardFn:
    """Build R = cos(phi_a(y_hat), z*), the paper's reward (section 2)."""

    def reward(estimate: Estimate, context: RewardContext) -> Float[Array, "b k g"]:
        heard, anchor = _unit(estimate.embedding), _unit(context.anchor)
        return jnp.einsum("bkgd,bkd->bkg", heard, anchor)

    return reward


def _mean_over(similarity: Array, other: Array) -> Array:
    count = jnp.sum(other, axis=-1)[:, :, None]
    total = jnp.einsum("bkgj,bkj->bkg", similarity, other)
    return total / jnp.maximum(count, 1.0)


def _max_over(similarity: Array, other: Array) -> Array:
    masked = jnp.where(other[:, :, None, :] > 0, similarity, -jnp.inf)
    top = jnp.max(masked, axis=-1)
    return jnp.where(jnp.isfinite(top), top, 0.0)


def contrastive_reward(against: str = "mean") -> RewardFn:
    """Build R = cos(y_hat, z*_k) minus cos(y_hat, z*_j) of the others (ours).

    The others are the active targets j != k of the same mixture. With none of
    them the reward is the plain cosine.

    Args:
      against: ``"mean"`` or ``"max"`` over the others.

    Raises:
      ValueError: another word.
    """
    table = {"mean": _mean_over, "max": _max_over}
    if against not in table:
        raise ValueError(f"against is {against!r}, expected 'mean' or 'max'")
    reduce = table[against]

    def reward(estimate: Estimate, context: RewardContext) -> Float[Array, "b k g"]:
        heard, anchor = _unit(estimate.embedding), _unit(context.anchor)
        similarity = jnp.einsum("bkgd,bjd->bkgj", heard, anchor)
        own = jnp.eye(anchor.shape[1], dtype=anchor.dtype)
        other = (1.0 - own)[None] * context.active[:, None]
        hit = jnp.einsum("bkgj,kj->bkg", similarity, own)
        return hit - reduce(similarity, other)

    return reward


def estimate_si_sdr(
    estimate: Estimate, context: RewardContext
) -> Float[Array, "b k g"]:
    """Return the SI-SDR of every estimate in dB, 0 where the target is absent.

    Raises:
      ValueError: the listener reconstructed no waveforms.
    """
    if estimate.waveform is None:
        raise ValueError(
            "estimate.waveform is None, expected waveforms: use the waveform listener"
        )
    target = jnp.broadcast_to(context.target[:, :, None], estimate.waveform.shape)
    value = si_sdr(estimate.waveform, target)
    return jnp.where(context.active[:, :, None] > 0, value, 0.0)


def si_sdr_reward(scale: float = 0.05) -> RewardFn:
    """Build R = scale * SI-SDR(y_hat, y*): the oracle reward (ours).

    Args:
      scale: reward per dB; 0.05 turns 20 dB into the span of a cosine.
    """

    def reward(estimate: Estimate, context: RewardContext) -> Float[Array, "b k g"]:
        return scale * estimate_si_sdr(estimate, context)

    return reward


def weighted_sum(terms: Mapping[str, tuple[float, RewardFn]]) -> RewardFn:
    """Build R = sum_i weight_i R_i.

    Args:
      terms: name to (weight, reward).

    Raises:
      ValueError: no terms.
    """
    if not terms:
        raise ValueError("terms is empty, expected at least one (weight, reward)")

    def reward(estimate: Estimate, context: RewardContext) -> Float[Array, "b k g"]:
        values = [weight * term(estimate, context) for weight, term in terms.values()]
        return sum(values[1:], start=values[0])

    return reward


def active_mean(
    value: Float[Array, "b k"], active: Float[Array, "b k"]
) -> Float[Array, ""]:
    """Average over the targets that are in their mixture; 0 if none is.

    What stands at the others does not matter, NaN included.
    """
    kept = jnp.where(active > 0, value, 0.0)
    return jnp.sum(kept) / jnp.maximum(jnp.sum(active > 0), 1)


def group_correlation(
    first: Float[Array, "b k g"],
    second: Float[Array, "b k g"],
    active: Float[Array, "b k"],
) -> Float[Array, ""]:
    """Correlate two scores of the same masks within each group, then average.

    Groups are centred on their own mean, so easy and hard prompts do not make a
    correlation by themselves. A group whose scores do not move counts as 0.

    Args:
      first: one score per mask [b, k, g], g >= 2.
      second: another score of the same masks.
      active: 1 for the groups that count, else 0.
    """
    a = first - jnp.mean(first, axis=-1, keepdims=True)
    b = second - jnp.mean(second, axis=-1, keepdims=True)
    var_a, var_b = jnp.mean(a * a, axis=-1), jnp.mean(b * b, axis=-1)
    moves = (var_a > VARIANCE_FLOOR) & (var_b > VARIANCE_FLOOR)
    scale = jnp.where(moves, jnp.sqrt(var_a * var_b), 1.0)
    correlation = jnp.where(moves, jnp.mean(a * b, axis=-1) / scale, 0.0)
    return active_mean(correlation, active)
