"""What training carries from step to step: arrays only, so one checkpoint layout."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int, PRNGKeyArray

from marssep_jax.types import AdvantageFn, Params


@struct.dataclass
class TrainState:
    """State of one training stage; functions live in closures, not here.

    Attributes:
      step: updates done. A policy update with several inner epochs counts once
        here and several times inside ``opt_state``.
      params: parameters of the separator.
      model_state: running statistics of the separator, if it has any.
      opt_state: state of the optimiser.
      old_params: the frozen sampler, kept only where it may lag behind
        ``params`` (refresh period above one), else None.
      ref_params: the supervised start, kept where the KL to it is wanted, else
        None.
      advantage_state: running baseline of the advantage, if it has one.
      key: root of all randomness; step s uses ``fold_in(key, s)``.
    """

    step: Int[Array, ""]
    params: Params
    model_state: Params
    opt_state: Any
    old_params: Params | None
    ref_params: Params | None
    advantage_state: Any
    key: PRNGKeyArray


def _copy(tree: Params) -> Params:
    """Copy every array: a donated state must not hold one buffer twice.

    Types become definite: what came from a Python number and is of a weak type
    would be of another after the first update, which would then compile again.
    """
    return jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype, copy=True), tree)


def create_state(
    key: PRNGKeyArray,
    params: Params,
    model_state: Params,
    tx: optax.GradientTransformation,
    advantage: AdvantageFn | None = None,
) -> TrainState:
    """Make the state of a stage that starts from given parameters.

    The arrays are copied, so the caller's stay valid when updates donate the
    state.

    Args:
      key: typed key of the stage.
      params: parameters to start from.
      model_state: statistics to start from.
      tx: optimiser.
      advantage: the policy stage's advantage; None in a supervised stage.
    """
    params = _copy(params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        model_state=_copy(model_state),
        opt_state=_copy(tx.init(params)),  # some optimisers keep params itself
        old_params=None,
        ref_params=None,
        advantage_state=None if advantage is None else _copy(advantage.init()),
        key=jax.random.clone(key),
    )


def snapshot(state: TrainState) -> TrainState:
    """Return the state with the old policy refreshed to the current one."""
    return dataclasses.replace(state, old_params=_copy(state.params))


def with_reference(state: TrainState) -> TrainState:
    """Return the state with the current policy kept as the supervised start."""
    return dataclasses.replace(state, ref_params=_copy(state.params))
