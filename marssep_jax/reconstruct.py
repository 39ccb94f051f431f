"""From masks on the log-frequency grid back to sound, with the mixture's phase."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from marssep_jax.features import Frontend, istft

ReconstructFn = Callable[[Float[Array, "..."], Complex[Array, "..."]], Array]

ENERGY_FLOOR = 1e-12
"""Keeps energy weights defined where every estimate is silent."""


def _per_mask(mixture: Array, num_axes: int, axis: int) -> Array:
    """Insert axes after the batch, so that a mixture meets each of its masks."""
    shape = (mixture.shape[0],) + (1,) * num_axes + mixture.shape[axis:]
    return mixture.reshape(shape)


def apply_mask(
    frontend: Frontend,
    mask: Float[Array, "b *k h w"],
    stft: Complex[Array, "b f n"],
) -> Complex[Array, "b *k f n"]:
    """Multiply each mixture STFT by its masks: M X, phase untouched.

    Args:
      frontend: the front end that made the STFT.
      mask: masks on the log-frequency grid, any axes between batch and grid.
      stft: mixture STFT.

    Returns:
      Masked STFTs.

    Raises:
      ValueError: batch or frames of the two differ.
    """
    if mask.ndim < 3 or stft.ndim != 3 or mask.shape[0] != stft.shape[0]:
        raise ValueError(
            f"mask has shape {mask.shape}, expected [b, ..., h, w] with the batch of"
            f" stft, whose shape is {stft.shape}"
        )
    if mask.shape[-1] != stft.shape[-1]:
        raise ValueError(
            f"mask has {mask.shape[-1]} columns, expected one for each of the"
            f" {stft.shape[-1]} frames of stft"
        )
    return frontend.from_grid(mask) * _per_mask(stft, mask.ndim - 3, 1)


def make_reconstruct(frontend: Frontend, length: int) -> ReconstructFn:
    """Build the map from masks to waveforms of one length.

    Args:
      frontend: the front end that made the STFT.
      length: samples to return.

    Returns:
      ``(mask [b, k, g, h, w], stft [b, f, n]) -> waveform [b, k, g, t]``; any axes
      may stand between batch and grid.

    Raises:
      ValueError: the length is not positive, or (when called) beyond the frames.
    """
    if length < 1:
        raise ValueError(f"length is {length}, expected >= 1")
    n_fft, hop = frontend.config.n_fft, frontend.config.hop

    def reconstruct(
        mask: Float[Array, "b *k h w"], stft: Complex[Array, "b f n"]
    ) -> Float[Array, "b *k t"]:
        reach = (stft.shape[-1] - 1) * hop + n_fft // 2
        if length > reach:
            raise ValueError(
                f"length is {length}, expected at most {reach}, where the"
                f" {stft.shape[-1]} frames of stft end"
            )
        return istft(apply_mask(frontend, mask, stft), length, n_fft, hop)

    return reconstruct


def mixture_consistency(
    estimate: Float[Array, "b k *g t"],
    mixture: Float[Array, "b t"],
    *,
    by_energy: bool = False,
) -> Float[Array, "b k *g t"]:
    """Share what the estimates leave of the mixture, so that they sum to it.

    s_k <- s_k + w_k (x - sum_j s_j): the smallest change that makes the sum right,
    for w_k = 1/K; with ``by_energy``, louder estimates take more of it.

    Args:
      estimate: estimates of all K sources of each mixture.
      mixture: their mixture.
      by_energy: weigh by each estimate's energy rather than evenly.

    Returns:
      Estimates of the same shape that sum to the mixture over ``k``.

    Raises:
      ValueError: batch or length of the two differ.
    """
    if estimate.ndim < 3 or mixture.shape != (estimate.shape[0], estimate.shape[-1]):
        raise ValueError(
            f"mixture has shape {mixture.shape}, expected [b, t] for an estimate"
            f" [b, k, ..., t] of shape {estimate.shape}"
        )
    whole = _per_mask(mixture, estimate.ndim - 2, 1)
    missing = whole - estimate.sum(axis=1, keepdims=True)
    if not by_energy:
        return estimate + missing / estimate.shape[1]
    energy = jnp.sum(estimate**2, axis=-1, keepdims=True) + ENERGY_FLOOR
    return estimate + missing * energy / energy.sum(axis=1, keepdims=True)
