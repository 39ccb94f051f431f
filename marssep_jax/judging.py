"""Train the held-out judge: cross-entropy on clips with interference (ours)."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from marssep_jax.encoders import Judge
from marssep_jax.state import TrainState
from marssep_jax.types import Metrics, Params


class ClipBatch(NamedTuple):
    """Clips and their classes."""

    audio: Float[Array, "b t"]
    label: Int[Array, " b"]


def make_judge_update(
    judge: Judge, tx: optax.GradientTransformation
) -> Callable[[TrainState, ClipBatch], tuple[TrainState, Metrics]]:
    """Return the jitted step of the judge's training; the state is donated."""

    def objective(params: Params, audio: Array, label: Array) -> tuple[Array, Array]:
        log_prob = judge.log_prob(params, audio)
        picked = jnp.take_along_axis(log_prob, label[:, None], axis=1)
        return -jnp.mean(picked), jnp.mean(jnp.argmax(log_prob, axis=1) == label)

    @partial(jax.jit, donate_argnums=0)
    def update(state: TrainState, batch: ClipBatch) -> tuple[TrainState, Metrics]:
        (loss, accuracy), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params, batch.audio, batch.label
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = dataclasses.replace(
            state, step=state.step + 1, params=params, opt_state=opt_state
        )
        return state, {"judge/loss": loss, "judge/accuracy": accuracy}

    return update
