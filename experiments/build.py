"""Names in a config become functions; a new idea is one more row here."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.settings import Settings
from marssep_jax import objectives
from marssep_jax.bundle import ModelBundle
from marssep_jax.checkpoint.workdir import differences
from marssep_jax.config import EncoderConfig, OptimiserConfig, to_dict
from marssep_jax.encoders import Encoder, make_encoder
from marssep_jax.encoders.backbones import initial_params
from marssep_jax.features import Frontend, make_frontend
from marssep_jax.fusion import Fusion, make_fusion
from marssep_jax.models import Separator, make_separator
from marssep_jax.types import Params


class Parts(NamedTuple):
    """The functions that every stage needs."""

    frontend: Frontend
    separator: Separator
    encoder: Encoder
    fusion: Fusion


def make_parts(settings: Settings) -> Parts:
    """Build front end, separator, encoder and pooling."""
    return Parts(
        make_frontend(settings.frontend),
        make_separator(settings.separator, jnp.dtype(settings.precision)),
        make_encoder(settings.encoder, settings.frontend),
        make_fusion(settings.encoder),
    )


def init_encoder(key: jax.Array, parts: Parts, config: EncoderConfig) -> Params:
    """Return parameters of encoder and pooling; what is not published is random.

    Raises:
      ValueError: published weights that cannot be read.
    """
    encoder_key, fusion_key = jax.random.split(key)
    return {
        "encoder": initial_params(encoder_key, parts.encoder, config),
        "fusion": parts.fusion.init(fusion_key),
    }


def require_same(
    settings: Settings, bundle: ModelBundle, name: str, parts: tuple[str, ...]
) -> None:
    """Check that a model to start from was built as the config says.

    Settings that are younger than the model have their defaults in it.

    Raises:
      ValueError: naming the first setting that differs.
    """
    for part in parts:
        record = getattr(settings, part)
        there = bundle.config.get(part)
        if there is not None:
            there = _listed(to_dict(type(record)()) | there)
        changes = differences(there, _listed(to_dict(record)), (part,))
        if changes:
            key, theirs, mine = changes[0]
            raise ValueError(
                f"config.{key} is {mine!r}, expected {theirs!r} as config.start.{name} "
                "was trained with"
            )


def _listed(values: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def make_optimiser(
    config: OptimiserConfig, steps_per_update: int = 1
) -> optax.GradientTransformation:
    """Build AdamW behind a clip of the gradient's norm.

    Args:
      config: rates; its steps count updates.
      steps_per_update: gradient steps an update takes, the optimiser's own count.
    """
    warmup = max(1, config.warmup_steps * steps_per_update)
    start = optax.linear_schedule(0.0, config.learning_rate, warmup)
    rest = optax.constant_schedule(config.learning_rate)
    if config.decay_steps:
        rest = optax.cosine_decay_schedule(
            config.learning_rate,
            config.decay_steps * steps_per_update,
            alpha=config.final_fraction,
        )
    schedule = optax.join_schedules([start, rest], [warmup])
    if not config.warmup_steps:
        schedule = rest
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, weight_decay=config.weight_decay),
    )


def make_objective(mask_target: str) -> objectives.Objective:
    """Build the supervised loss."""
    table = {
        "ratio": objectives.ratio_mask_target,
        "binary": objectives.binary_mask_target,
    }
    return objectives.make_supervised_objective(table[mask_target])
