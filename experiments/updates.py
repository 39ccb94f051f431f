"""The update of a training stage, built from its config."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from experiments.build import Parts, make_objective, make_optimiser
from experiments.policy_parts import (
    make_advantage,
    make_estimator,
    make_hearing,
    make_policy,
    make_surrogate,
)
from experiments.settings import Settings
from marssep_jax.state import TrainState, create_state, snapshot, with_reference
from marssep_jax.types import Params
from marssep_jax.update import make_policy_update, make_supervised_update
from marssep_jax.update.gradients import UpdateFn
from marssep_jax.update.probe import ProbeFn, make_limits, make_probe


class Stage(NamedTuple):
    """The update of a stage, how its state begins, and what is watched now and then.

    ``limits`` are the reward's, ``probe`` is that of the gradient; see
    `marssep_jax.update.probe`.
    """

    update: UpdateFn
    start: Callable[[jax.Array, Params, Params], TrainState]
    limits: ProbeFn | None = None
    probe: ProbeFn | None = None


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
    advantage, estimator = make_advantage(config), make_estimator(config)
    hearing = make_hearing(settings, parts, encoder_params)
    update = make_policy_update(
        hearing.separator,
        hearing.frontend,
        make_policy(settings),
        hearing.listen,
        hearing.anchor,
        hearing.reward,
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
        estimator=estimator,
        gain_coef=config.gain_coef,
        kl_target=config.kl_target or None,
    )

    def start(key: jax.Array, params: Params, model_state: Params) -> TrainState:
        # The divergence from the supervised start is always watched.
        state = with_reference(create_state(key, params, model_state, tx, advantage))
        return snapshot(state) if config.old_refresh > 1 else state

    known = hearing.policy.path is not None
    probe = make_probe(hearing, estimator, advantage) if known else None
    return Stage(update, start, make_limits(hearing), probe)
