"""Put a stage on the devices: its state, what it keeps fixed, and its update."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from experiments import build, hosts, updates
from experiments.settings import Settings
from marssep_jax import sharding
from marssep_jax.replicas import averaged_gradient
from marssep_jax.state import TrainState
from marssep_jax.types import Metrics, MixtureBatch, Params
from marssep_jax.update.probe import ProbeFn

HEARD = ("audio", "audio_head", "log_temperature")
"""The parts of an encoder that a reward needs: words and pictures come as vectors."""


class PlacedStage(NamedTuple):
    """A state on the devices, the step that moves it, and what is watched of it.

    ``limits`` and ``probe`` are those of `experiments.updates.Stage`; several processes
    have neither, nor has pmap, for each sees only its share of a batch.
    """

    state: TrainState
    update: Callable[[TrainState, MixtureBatch], tuple[TrainState, Metrics]]
    limits: ProbeFn | None = None
    probe: ProbeFn | None = None


def place_stage(
    settings: Settings,
    parts: build.Parts,
    encoder_params: Params,
    key: jax.Array,
    start: tuple[Params, Params],
) -> PlacedStage:
    """Build the stage that a config names, over all devices of all processes.

    Args:
      settings: the config.
      parts: of `experiments.build.make_parts`.
      encoder_params: of encoder and pooling; the policy stage's reward.
      key: the stage's.
      start: the separator's parameters and statistics.

    Raises:
      ValueError: a strategy that does not run on several processes.
    """
    mesh = sharding.make_data_mesh()
    by_pmap = settings.parallelism == "pmap"
    if by_pmap and jax.process_count() > 1:
        raise ValueError(
            "config.parallelism is 'pmap', expected 'jit' for several processes"
        )
    fixed = needed(settings, encoder_params)
    stage = updates.make_stage(settings, parts, fixed)
    state = stage.start(key, *start)
    whole = jax.process_count() == 1 and not by_pmap
    if by_pmap:
        apply = averaged_gradient(parts.separator.apply)
        parts = parts._replace(separator=parts.separator._replace(apply=apply))

    def update(fixed: Params, state: TrainState, batch: MixtureBatch) -> Any:
        return updates.make_stage(settings, parts, fixed).update(state, batch)

    cut = settings.shard_params
    placed = sharding.place_state(fixed, mesh, cut=cut)
    return PlacedStage(
        sharding.place_state(state, mesh, cut=cut),
        sharding.data_parallel(update, mesh, placed, strategy=settings.parallelism),
        stage.limits if whole else None,
        stage.probe if whole else None,
    )


def needed(settings: Settings, encoder_params: Params) -> Params:
    """Return what a stage reads of an encoder and its pooling."""
    if settings.stage == "supervised":
        return {}
    found = _heard(encoder_params)
    if others := encoder_params.get("others"):
        found["others"] = tuple(_heard(each) for each in others)
    return found


def _heard(params: Params) -> Params:
    encoder = params["encoder"]
    return {
        "encoder": {name: encoder[name] for name in HEARD if name in encoder},
        "fusion": params["fusion"],
    }


def evaluated_once(
    evaluate: Callable[[Any], dict[str, float]] | None,
) -> Callable[[Any], dict[str, float]] | None:
    """Return an evaluation that process 0 does, and whose scores all processes have.

    Args:
      evaluate: of a state, whose parameters and statistics it reads.
    """
    if evaluate is None or jax.process_count() == 1:
        return evaluate

    def run(state: TrainState) -> dict[str, float]:
        own = sharding.host_copy((state.params, state.model_state))
        whole = dataclasses.replace(state, params=own[0], model_state=own[1])
        return hosts.of_first(lambda: evaluate(whole))

    return run
