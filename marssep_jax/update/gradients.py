"""Apply gradients and say how large the step was."""

from collections.abc import Callable
from typing import Any

import optax

from marssep_jax.state import TrainState
from marssep_jax.types import Metrics, MixtureBatch, Params

UpdateFn = Callable[[TrainState, MixtureBatch], tuple[TrainState, Metrics]]


def apply_gradients(
    tx: optax.GradientTransformation, params: Params, opt_state: Any, grads: Params
) -> tuple[Params, Any, Metrics]:
    """Take one optimiser step and report the norms.

    A gradient that is not finite is applied like any other; ``grad/norm`` and
    ``update/norm`` show it, and what to do about it is the loop's decision.

    Args:
      tx: optimiser.
      params: parameters before the step.
      opt_state: its state.
      grads: gradient of the loss, a tree like ``params``.

    Returns:
      Parameters and optimiser state after the step, and the global norms of
      gradient (before any clipping), update and parameters.
    """
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    norms = {
        "grad/norm": optax.tree.norm(grads),
        "update/norm": optax.tree.norm(updates),
        "params/norm": optax.tree.norm(params),
    }
    return params, opt_state, norms
