"""Losses and scores of embeddings that should or should not match (section 3)."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# exp(-4.6) = 0.01, CLIP's lower bound: sharper softmaxes diverge.
MIN_LOG_TEMPERATURE = -4.6
MASKED_LOGIT = -1e9


def info_nce(
    left: Float[Array, "b d"],
    right: Float[Array, "b d"],
    label: Int[Array, " b"],
    log_temperature: Float[Array, ""],
    valid: Float[Array, " b"] | None = None,
) -> Float[Array, ""]:
    """Return the symmetric InfoNCE loss with every same-label pair positive.

    Args:
      left: unit embeddings of one modality.
      right: unit embeddings of the other, row by row.
      label: class of each row; rows of one class are not each other's negatives.
      log_temperature: logarithm of the softmax temperature.
      valid: 1 where a row takes part, else 0.
    """
    chex.assert_rank((left, right), 2)
    chex.assert_equal_shape((left, right))
    valid = jnp.ones(left.shape[0]) if valid is None else valid
    temperature = jnp.exp(jnp.maximum(log_temperature, MIN_LOG_TEMPERATURE))
    logits = left @ right.T / temperature
    pair = valid[:, None] * valid[None, :]
    same = (label[:, None] == label[None, :]) * pair
    logits = jnp.where(pair > 0, logits, MASKED_LOGIT)

    def one_way(scores: Array, positive: Array) -> Array:
        log_prob = jax.nn.log_softmax(scores, axis=1)
        count = jnp.maximum(jnp.sum(positive, axis=1), 1.0)
        per_row = -jnp.sum(positive * log_prob, axis=1) / count
        return jnp.sum(per_row * valid) / jnp.maximum(jnp.sum(valid), 1.0)

    return 0.5 * (one_way(logits, same) + one_way(logits.T, same.T))


def triplet(
    anchor: Float[Array, "b d"],
    positive: Float[Array, "b d"],
    negative: Float[Array, "b d"],
    margin: float,
    valid: Float[Array, " b"] | None = None,
) -> Float[Array, ""]:
    """Return mean max(0, margin - cos(anchor, positive) + cos(anchor, negative))."""
    chex.assert_equal_shape((anchor, positive, negative))
    valid = jnp.ones(anchor.shape[0]) if valid is None else valid
    gap = jnp.sum(anchor * (positive - negative), axis=-1)
    hinge = jnp.maximum(margin - gap, 0.0)
    return jnp.sum(hinge * valid) / jnp.maximum(jnp.sum(valid), 1.0)


def discriminability(
    left: Float[Array, "m d"],
    right: Float[Array, "n d"],
    left_label: Int[Array, " m"],
    right_label: Int[Array, " n"],
) -> dict[str, Array]:
    """Return matched minus mismatched similarity and R@1 in each direction."""
    similarity = left @ right.T
    same = left_label[:, None] == right_label[None, :]
    gap = jnp.mean(similarity, where=same) - jnp.mean(similarity, where=~same)
    forward = right_label[jnp.argmax(similarity, axis=1)] == left_label
    backward = left_label[jnp.argmax(similarity, axis=0)] == right_label
    return {
        "gap": gap,
        "recall_at_1": jnp.mean(forward),
        "recall_at_1_back": jnp.mean(backward),
    }
