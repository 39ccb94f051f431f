"""Names in a config become functions; a new idea is one more row here."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import optax

from experiments.settings import Settings
from marssep_jax import advantages, objectives, policy, rewards, surrogates
from marssep_jax.bundle import ModelBundle
from marssep_jax.checkpoint.workdir import differences
from marssep_jax.config import (
    EncoderConfig,
    OptimiserConfig,
    PolicyConfig,
    UpdateConfig,
    to_dict,
)
from marssep_jax.encoders import Encoder, make_encoder
from marssep_jax.encoders.backbones import initial_params
from marssep_jax.features import Frontend, make_frontend
from marssep_jax.fusion import Fusion, make_fusion
from marssep_jax.listening import make_grid_listener, make_waveform_listener
from marssep_jax.models import Separator, make_separator
from marssep_jax.state import TrainState, create_state, snapshot, with_reference
from marssep_jax.types import (
    AdvantageFn,
    AnchorFn,
    ListenFn,
    MaskPolicy,
    MixtureBatch,
    Params,
    RewardFn,
    SampleFn,
    SurrogateFn,
)
from marssep_jax.update import make_policy_update, make_supervised_update
from marssep_jax.update.gradients import UpdateFn


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
        make_separator(settings.separator),
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


def make_mask_policy(config: PolicyConfig) -> MaskPolicy:
    """Build the mask distribution."""
    table = {
        "beta": lambda: policy.beta_policy(
            config.kappa, config.noise_patch, config.sampler
        ),
        "patch_beta": lambda: policy.patch_beta_policy(
            config.kappa, config.action_patch
        ),
    }
    return table[config.family]()


def make_mask_fn(name: str, config: PolicyConfig) -> SampleFn | None:
    """Build ``(key, proposal) -> mask``; None stands for the mode, P itself.

    Args:
      name: one of `marssep_jax.config.MASKS`.
      config: the policy's.
    """
    policy = make_mask_policy(config)
    table: dict[str, SampleFn | None] = {
        "mode": None,
        "mean": lambda key, proposal: policy.mean(proposal),
        "sample": policy.sample,
    }
    return table[name]


def make_reward(config: UpdateConfig) -> RewardFn:
    """Build the reward."""
    table = {
        "cosine": rewards.cosine_reward,
        "contrastive": rewards.contrastive_reward,
        "si_sdr": rewards.si_sdr_reward,
    }
    return table[config.reward]()


def make_advantage(config: UpdateConfig) -> AdvantageFn:
    """Build the advantage."""
    table = {
        "group": advantages.group_advantage,
        "batch": advantages.batch_advantage,
        "leave_one_out": advantages.leave_one_out_advantage,
        "moving_average": lambda: advantages.moving_average_advantage(
            config.baseline_decay
        ),
    }
    return table[config.advantage]()


def make_surrogate(config: UpdateConfig) -> SurrogateFn:
    """Build the objective of log-ratios."""
    table: dict[str, Callable[[], SurrogateFn]] = {
        level: partial(surrogates.clipped_surrogate, config.clip_eps, level)
        for level in surrogates.RATIO_LEVELS
    }
    table["none"] = surrogates.policy_gradient
    return table[config.ratio_level]()


def make_listener(config: UpdateConfig, parts: Parts, params: Params) -> ListenFn:
    """Build what the reward's encoder hears."""
    audio = partial(parts.encoder.audio, params["encoder"])
    grid = partial(parts.encoder.audio_from_grid, params["encoder"])
    table = {
        "waveform": lambda: make_waveform_listener(parts.frontend, audio),
        "grid": lambda: make_grid_listener(parts.frontend, grid),
    }
    return table[config.reward_on]()


def make_anchor(parts: Parts, params: Params) -> AnchorFn:
    """Build z*: the target's own sound, its caption and its picture, fused."""

    def anchor(batch: MixtureBatch) -> jax.Array:
        heard = parts.encoder.audio(params["encoder"], batch.target)
        return parts.fusion.apply(params["fusion"], heard, batch.text, batch.image)

    return anchor


class Stage(NamedTuple):
    """The update of a stage, and how its state begins."""

    update: UpdateFn
    start: Callable[[jax.Array, Params, Params], TrainState]


def make_stage(settings: Settings, parts: Parts, encoder_params: Params) -> Stage:
    """Build the stage that a config names.

    Args:
      settings: the config.
      parts: of `make_parts`.
      encoder_params: of encoder and pooling; the policy stage's reward.

    Returns:
      Its update, and ``start(key, params, model_state)``.
    """
    table = {
        "supervised": lambda: _supervised_stage(settings, parts),
        "policy": lambda: _policy_stage(settings, parts, encoder_params),
    }
    return table[settings.stage]()


def _supervised_stage(settings: Settings, parts: Parts) -> Stage:
    tx = make_optimiser(settings.optimiser)
    objective = make_objective(settings.training.mask_target)
    update = make_supervised_update(
        parts.separator.apply, parts.frontend, objective, tx
    )

    def start(key: jax.Array, params: Params, model_state: Params) -> TrainState:
        return create_state(key, params, model_state, tx)

    return Stage(update, start)


def _policy_stage(settings: Settings, parts: Parts, encoder_params: Params) -> Stage:
    config = settings.rl
    tx = make_optimiser(settings.optimiser, config.inner_epochs)
    advantage = make_advantage(config)
    update = make_policy_update(
        parts.separator.apply,
        parts.frontend,
        make_mask_policy(settings.policy),
        make_listener(config, parts, encoder_params),
        make_anchor(parts, encoder_params),
        make_reward(config),
        advantage,
        make_surrogate(config),
        tx,
        group_size=config.group_size,
        inner_epochs=config.inner_epochs,
        entropy_coef=config.entropy_coef,
        kl_old_coef=config.kl_old_coef,
        kl_ref_coef=config.kl_ref_coef,
        supervised_coef=config.supervised_coef,
        objective=make_objective(settings.training.mask_target),
        old_refresh=config.old_refresh,
    )

    def start(key: jax.Array, params: Params, model_state: Params) -> TrainState:
        # The divergence from the supervised start is always watched.
        state = with_reference(create_state(key, params, model_state, tx, advantage))
        return snapshot(state) if config.old_refresh > 1 else state

    return Stage(update, start)
