"""Apply gradients that are sound, and say how large the step was."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from marssep_jax.replicas import all_devices
from marssep_jax.state import TrainState
from marssep_jax.types import Metrics, MixtureBatch, Params

T = TypeVar("T")
SKIPPED = "update/skipped"
"""Metric of an update: 1 where something in it was not finite, else 0."""

UpdateFn = Callable[[TrainState, MixtureBatch], tuple[TrainState, Metrics]]


def choose(take_new: Bool[Array, ""], new: T, old: T) -> T:
    """Return one of two trees of the same structure, without leaving the device."""
    return jax.tree.map(lambda a, b: jnp.where(take_new, a, b), new, old)


def apply_gradients(
    tx: optax.GradientTransformation,
    params: Params,
    opt_state: Any,
    grads: Params,
    is_sound: Bool[Array, ""],
) -> tuple[Params, Any, Metrics]:
    """Take one optimiser step and report the norms, unless numbers have gone bad.

    Where the gradient or what it came from is not finite, parameters and optimiser
    stay as they are, and the update's norm is 0. That is decided on the device.

    Args:
      tx: optimiser.
      params: parameters before the step.
      opt_state: its state.
      grads: gradient of the loss, a tree like ``params``.
      is_sound: whether all that the gradient came from is finite.

    Returns:
      Parameters and optimiser state after the step, and the global norms of
      gradient (before any clipping), update and parameters, with ``SKIPPED``.
    """
    norm = optax.tree.norm(grads)
    sound = (is_sound & jnp.isfinite(norm)).astype(jnp.float32)
    is_sound = all_devices(jax.lax.pmin, sound) > 0

    def step(carry: tuple[Params, Any]) -> tuple[tuple[Params, Any], Array]:
        params, opt_state = carry
        updates, stepped = tx.update(grads, opt_state, params)
        moved = optax.apply_updates(params, updates)
        return (moved, stepped), optax.tree.norm(updates)

    def stay(carry: tuple[Params, Any]) -> tuple[tuple[Params, Any], Array]:
        return carry, jnp.zeros_like(norm)

    carry = (params, opt_state)
    if jax.default_backend() == "cpu":
        # Choosing between arrays needs both: moments are copied, a third of the pass.
        (params, opt_state), distance = jax.lax.cond(is_sound, step, stay, carry)
    else:  # a branch would wait for the host, and choosing is fused with the pass
        taken = step(carry)
        (params, opt_state), distance = choose(is_sound, taken, stay(carry))
    metrics = {
        "grad/norm": norm,
        "update/norm": distance,
        "params/norm": optax.tree.norm(params),
        SKIPPED: 1.0 - is_sound.astype(jnp.float32),
    }
    return params, opt_state, metrics
