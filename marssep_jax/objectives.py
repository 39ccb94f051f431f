"""Supervised mask losses: targets, bin weights, cross-entropy on logits.

The loss is the base separator's: cross-entropy between sigma(z) and a mask
target on the log-frequency grid, each bin weighted by the loudness of the
mixture, plain mean over everything.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marssep_jax.features import Frontend, stft
from marssep_jax.types import Features, Metrics

# omnisep: a source wins a bin only if it beats half of a mixture that is at
# least this loud, so bins of digital silence belong to nobody.
SILENCE_FLOOR = 1e-10
WEIGHT_MIN, WEIGHT_MAX = 1e-3, 10.0  # omnisep

MaskTargetFn = Callable[
    [Float[Array, "b k h w"], Float[Array, "b h w"]], Float[Array, "b k h w"]
]


class Scene(NamedTuple):
    """A mixture and its targets on the grid, from one STFT of every target."""

    features: Features
    target_magnitude: Float[Array, "b k h w"]


@runtime_checkable
class Objective(Protocol):
    """A supervised loss of mask logits."""

    def __call__(
        self, logits: Float[Array, "b k h w"], scene: Scene
    ) -> tuple[Float[Array, ""], Metrics]:
        """Return the loss (to be minimised) and its monitors."""
        ...


def analyse_scene(frontend: Frontend, target: Float[Array, "b k t"]) -> Scene:
    """Analyse targets and their mixture with one STFT a target.

    The STFT is linear, so the mixture's is the sum of the targets'.

    Args:
      frontend: signal front end.
      target: reference waveforms [b, k, t]; the mixture is their sum over k.
    """
    config = frontend.config
    target_stft = stft(target, config.n_fft, config.hop)
    mixture_stft = jnp.sum(target_stft, axis=1)
    magnitude = frontend.to_grid(jnp.abs(mixture_stft) + config.log_floor)
    features = Features(mixture_stft, magnitude, jnp.log(magnitude))
    # omnisep: the floor is the mixture's alone; a silent target stays at zero.
    return Scene(features, frontend.to_grid(jnp.abs(target_stft)))


def ratio_mask_target(
    target_magnitude: Float[Array, "b k h w"],
    mixture_magnitude: Float[Array, "b h w"] | None = None,
) -> Float[Array, "b k h w"]:
    """Return |S_k| / sum_j |S_j|: shares that sum to one over the targets.

    An absent target gets 0 everywhere, and so does everybody where all are
    silent. The mixture is not needed; the argument makes the mask targets
    exchangeable.
    """
    del mixture_magnitude
    total = jnp.sum(target_magnitude, axis=1, keepdims=True)
    return jnp.where(
        total > 0, target_magnitude / jnp.where(total > 0, total, 1.0), 0.0
    )


def binary_mask_target(
    target_magnitude: Float[Array, "b k h w"],
    mixture_magnitude: Float[Array, "b h w"],
) -> Float[Array, "b k h w"]:
    """Return 1 where |S_k| > (|X| + 1e-10) / 2, else 0 (omnisep)."""
    threshold = 0.5 * (mixture_magnitude[:, None] + SILENCE_FLOOR)
    return (target_magnitude > threshold).astype(target_magnitude.dtype)


def loudness_weight(
    mixture_magnitude: Float[Array, "b h w"],
) -> Float[Array, "b h w"]:
    """Return clamp(ln(1 + |X|), 1e-3, 10), which is not renormalised (omnisep)."""
    return jnp.clip(jnp.log1p(mixture_magnitude), WEIGHT_MIN, WEIGHT_MAX)


def binary_cross_entropy(
    logits: Float[Array, "b k h w"],
    mask_target: Float[Array, "b k h w"],
    weight: Float[Array, "b h w"],
) -> Float[Array, ""]:
    """Return the weighted cross-entropy of sigma(logits), averaged over all bins.

    Written as softplus(z) - z m, which is finite for any finite logit.

    Args:
      logits: z [b, k, h, w].
      mask_target: m in [0, 1], same shape.
      weight: one weight per bin of the mixture [b, h, w].
    """
    loss = jax.nn.softplus(logits) - logits * mask_target
    return jnp.mean(weight[:, None] * loss)


def make_supervised_objective(
    mask_target: MaskTargetFn = ratio_mask_target,
) -> Objective:
    """Build the weighted cross-entropy against a mask target.

    Args:
      mask_target: ``ratio_mask_target`` (ours) or ``binary_mask_target``
        (omnisep).

    Returns:
      A function of mask logits [b, k, h, w] and a ``Scene``.
    """

    def objective(
        logits: Float[Array, "b k h w"], scene: Scene
    ) -> tuple[Float[Array, ""], Metrics]:
        magnitude = scene.features.grid_magnitude
        wanted = mask_target(scene.target_magnitude, magnitude)
        weight = loudness_weight(magnitude)
        loss = binary_cross_entropy(logits, wanted, weight)
        error = jnp.mean(weight[:, None] * jnp.abs(jax.nn.sigmoid(logits) - wanted))
        return loss, {
            "supervised/loss": loss,
            # In the loss's own weighting; scale-free, unlike the loss.
            "supervised/mask_error": error / jnp.mean(weight),
        }

    return objective
