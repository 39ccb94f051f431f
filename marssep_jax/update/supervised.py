"""The supervised step: separator against mask targets."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from marssep_jax.features import Frontend
from marssep_jax.objectives import Objective, Scene, analyse_scene
from marssep_jax.state import TrainState
from marssep_jax.types import Metrics, MixtureBatch, Params, SeparatorFn
from marssep_jax.update.gradients import SKIPPED, UpdateFn, apply_gradients, choose


def make_supervised_update(
    separator: SeparatorFn,
    frontend: Frontend,
    objective: Objective,
    tx: optax.GradientTransformation,
) -> UpdateFn:
    """Build the jitted supervised step. The state is donated.

    Where loss or gradient is not finite, only the step number moves.

    Args:
      separator: forward pass; its statistics are updated.
      frontend: signal front end.
      objective: loss of mask logits.
      tx: optimiser.

    Returns:
      ``(state, batch) -> (state, metrics)``.
    """

    def loss_fn(
        params: Params,
        model_state: Params,
        scene: Scene,
        query: Float[Array, "b k d"],
    ) -> tuple[Float[Array, ""], tuple[Params, Metrics]]:
        logits, model_state = separator(
            params, model_state, scene.features.log_mag, query, train=True
        )
        loss, metrics = objective(logits, scene)
        return loss, (model_state, metrics)

    def step(state: TrainState, batch: MixtureBatch) -> tuple[TrainState, Metrics]:
        scene = analyse_scene(frontend, batch.target)
        (loss, (model_state, metrics)), grads = jax.value_and_grad(
            loss_fn, has_aux=True
        )(state.params, state.model_state, scene, batch.query)
        params, opt_state, norms = apply_gradients(
            tx, state.params, state.opt_state, grads, jnp.isfinite(loss)
        )
        was_taken = norms[SKIPPED] == 0
        state = dataclasses.replace(
            state,
            step=state.step + 1,
            params=params,
            model_state=choose(was_taken, model_state, state.model_state),
            opt_state=opt_state,
        )
        return state, metrics | norms

    return jax.jit(step, donate_argnums=0)
