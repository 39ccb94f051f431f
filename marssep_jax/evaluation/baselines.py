"""Estimates that no model made: the mixture itself, and what ideal masks leave.

The masks know the targets. They act on the STFT of 1024 samples each 256, not on a
model's grid, and keep the mixture's phase, so that they are the same for all models:
the mixture is where separation begins, they are where masking by magnitude ends.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marssep_jax.features import istft, stft
from marssep_jax.objectives import ratio_mask_target

BaselineFn = Callable[[Float[Array, "b k t"]], Float[Array, "b k t"]]


@jax.jit
def mixture_itself(target: Float[Array, "b k t"]) -> Float[Array, "b k t"]:
    """Return the mixture in every target's place."""
    return jnp.broadcast_to(target.sum(axis=1, keepdims=True), target.shape)


@jax.jit
def ideal_ratio_mask(target: Float[Array, "b k t"]) -> Float[Array, "b k t"]:
    """Return the mixture under |S_k| / sum_j |S_j|."""
    spectrum = stft(target)
    mask = ratio_mask_target(jnp.abs(spectrum))
    return istft(mask * spectrum.sum(axis=1, keepdims=True), target.shape[-1])


@jax.jit
def ideal_binary_mask(target: Float[Array, "b k t"]) -> Float[Array, "b k t"]:
    """Return the mixture where |S_k| > |X - S_k|, above 0 dB against the rest."""
    spectrum = stft(target)
    whole = spectrum.sum(axis=1, keepdims=True)
    mask = jnp.abs(spectrum) > jnp.abs(whole - spectrum)
    return istft(jnp.where(mask, whole, 0), target.shape[-1])


BASELINES: dict[str, BaselineFn] = {
    "mixture": mixture_itself,
    "ideal_ratio_mask": ideal_ratio_mask,
    "ideal_binary_mask": ideal_binary_mask,
}
