"""Rewards of sampled masks (method section 2), and how two rewards agree.

A reward maps what the encoder heard and what it should have heard to one scalar
per sampled mask. Any weighted sum of rewards is again a reward.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jax.scipy.special import logsumexp
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


def softmax_reward(temperature: float = 0.1) -> RewardFn:
    """Build R = t ln softmax over j of cos(y_hat, z*_j) / t, at j = k (ours).

    t is the temperature, and j runs over the active targets of the whole batch, but
    for others of the class of k where ``context.label`` tells classes. Times t it is
    in units of a cosine: near its own anchor, with all others far off, it is 0; near
    another one it is the difference of the two cosines.

    Args:
      temperature: of the softmax, > 0; low ones hear the nearest other anchor alone.

    Raises:
      ValueError: a temperature that is not above 0.
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature is {temperature!r}, expected a number > 0")

    def reward(estimate: Estimate, context: RewardContext) -> Float[Array, "b k g"]:
        heard, anchor = _unit(estimate.embedding), _unit(context.anchor)
        batch, targets = anchor.shape[:2]
        similarity = jnp.einsum("bkgd,cjd->bkgcj", heard, anchor)
        similarity = similarity.reshape(*heard.shape[:3], batch * targets)
        own = jnp.eye(batch * targets).reshape(batch, targets, 1, -1) > 0
        rival = jnp.broadcast_to(context.active.reshape(1, 1, 1, -1) > 0, own.shape)
        if context.label is not None:
            label = context.label
            rival = rival & (label[..., None, None] != label.reshape(1, 1, 1, -1))
        logits = jnp.where(own | rival, similarity / temperature, -jnp.inf)
        hit = jnp.sum(jnp.where(own, similarity, 0.0), axis=-1)
        return hit - temperature * logsumexp(logits, axis=-1)

    return reward


def has_si_sdr(estimate: Estimate, context: RewardContext) -> bool:
    """Say whether ``estimate_si_sdr`` has what it needs."""
    on_grid = estimate.magnitude is not None and context.target_magnitude is not None
    return estimate.waveform is not None or on_grid


def estimate_si_sdr(
    estimate: Estimate, context: RewardContext
) -> Float[Array, "b k g"]:
    """Return the SI-SDR of every estimate in dB, 0 where the target is absent.

    Where no waveforms were reconstructed it is that of masked against target
    magnitudes on the grid, which ignores phase and counts rows of the warped axis
    alike.

    Raises:
      ValueError: neither waveforms nor magnitudes of both sides.
    """
    heard: Array | None = estimate.waveform
    target: Array | None = context.target
    if heard is None:
        heard, target = estimate.magnitude, context.target_magnitude
    if heard is None or target is None:
        raise ValueError(
            "estimate has neither waveform nor magnitude beside a target_magnitude, "
            "expected what SI-SDR is computed from"
        )
    heard = heard.reshape(*heard.shape[:3], -1)
    target = target.reshape(*target.shape[:2], 1, -1)
    value = si_sdr(heard, jnp.broadcast_to(target, heard.shape))
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
