"""Augmentations of log-frequency grids: what masks do to sounds (ours)."""

import chex
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.sampling import num_patches, repeat_patches

NEPER_PER_DB = 0.1151292546


def attenuate_patches(
    key: PRNGKeyArray,
    log_mag: Float[Array, "b h w"],
    max_share: float = 0.5,
    max_depth_db: float = 30.0,
    patch: tuple[int, int] = (8, 16),
) -> Float[Array, "b h w"]:
    """Turn down random patches of each clip.

    An encoder that has met masked sounds in training is harder to please by a
    mask alone, which is what a policy would learn to do.

    Args:
      key: random key.
      log_mag: log magnitudes.
      max_share: each clip loses a share of its patches, uniform up to this.
      max_depth_db: each of them by an attenuation that is uniform up to this.
      patch: (rows, columns) of a patch.
    """
    chex.assert_rank(log_mag, 3)
    batch, height, width = log_mag.shape
    counts = (num_patches(height, patch[0]), num_patches(width, patch[1]))
    share_key, place_key, depth_key = jax.random.split(key, 3)
    share = jax.random.uniform(share_key, (batch, 1, 1), maxval=max_share)
    hit = jax.random.uniform(place_key, (batch, *counts)) < share
    depth = jax.random.uniform(depth_key, (batch, *counts), maxval=max_depth_db)
    loss = NEPER_PER_DB * depth * hit
    return log_mag - repeat_patches(loss, patch, height, width)
