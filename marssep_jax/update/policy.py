"""The policy step: sample, listen, reward, then climb the surrogate.

Everything between the waveforms of a batch and the new parameters is one jitted
function. The separator always runs with ``train=False``: statistics that moved
between sampling and update would make the first ratio differ from 1.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from marssep_jax.annealing import PolicyFn, policy_at
from marssep_jax.estimators import Estimator, score_estimator
from marssep_jax.features import Frontend
from marssep_jax.objectives import Objective, Scene, analyse_scene
from marssep_jax.rollout import RolloutFn, make_rollout
from marssep_jax.state import TrainState
from marssep_jax.types import (
    AdvantageFn,
    AnchorFn,
    ListenFn,
    MaskPolicy,
    Metrics,
    MixtureBatch,
    Params,
    RewardContext,
    RewardFn,
    SeparatorFn,
    SurrogateFn,
)
from marssep_jax.update.epochs import Logits, run_epochs
from marssep_jax.update.gradients import SKIPPED, UpdateFn, choose
from marssep_jax.update.policy_loss import (
    Coefficients,
    Lesson,
    LessonLoss,
    make_policy_loss,
)


def reward_context(
    anchor: AnchorFn, batch: MixtureBatch, scene: Scene
) -> RewardContext:
    """Say what the estimates of a batch are compared with.

    A target that is silent everywhere is not active.
    """
    loudest = jnp.max(jnp.abs(batch.target), axis=-1)
    return RewardContext(
        anchor=jax.lax.stop_gradient(anchor(batch)),  # the encoder is frozen
        target=batch.target,
        active=(loudest > 0).astype(batch.target.dtype),
        target_magnitude=scene.target_magnitude,
        label=batch.label,
    )


def forward(
    separator: SeparatorFn,
    model_state: Params,
    log_mag: Float[Array, "b h w"],
    query: Float[Array, "b k d"],
    params: Params,
) -> Logits:
    """Run the separator with frozen statistics, in float32 from its logits on."""
    logits, _ = separator(params, model_state, log_mag, query, train=False)
    return logits.astype(jnp.float32)


def _refresh(state: TrainState, period: int) -> TrainState:
    """Replace the old policy by the current one at every ``period``-th step."""
    due = state.step % period == 0
    old = jax.tree.map(
        lambda new, old: jnp.where(due, new, old), state.params, state.old_params
    )
    return dataclasses.replace(state, old_params=old)


class _Recipe(NamedTuple):
    """The choices of one experiment; Python branches on nothing else."""

    separator: SeparatorFn
    frontend: Frontend
    anchor: AnchorFn
    policy: MaskPolicy | PolicyFn
    rollout: Callable[[MaskPolicy], RolloutFn]
    loss: Callable[[MaskPolicy], LessonLoss]
    tx: optax.GradientTransformation
    inner_epochs: int
    old_refresh: int
    kl_target: float | None
    coefs: Coefficients


def _check_numbers(
    coefs: Coefficients,
    objective: Objective | None,
    inner_epochs: int,
    old_refresh: int,
) -> None:
    if inner_epochs < 1 or old_refresh < 1:
        raise ValueError(
            f"(inner_epochs, old_refresh) is {(inner_epochs, old_refresh)}, "
            f"expected both >= 1"
        )
    if coefs.supervised and objective is None:
        raise ValueError(
            f"objective is None, expected a loss for supervised_coef = "
            f"{coefs.supervised}"
        )


def _check_state(recipe: _Recipe, state: TrainState) -> None:
    if recipe.old_refresh > 1 and state.old_params is None:
        raise ValueError(
            f"state.old_params is None, expected snapshot(state) for old_refresh = "
            f"{recipe.old_refresh}"
        )
    if recipe.coefs.kl_ref and state.ref_params is None:
        raise ValueError(
            f"state.ref_params is None, expected with_reference(state) for "
            f"kl_ref_coef = {recipe.coefs.kl_ref}"
        )


def _step(
    recipe: _Recipe, state: TrainState, batch: MixtureBatch
) -> tuple[TrainState, Metrics]:
    _check_state(recipe, state)
    scene = analyse_scene(recipe.frontend, batch.target)
    context = reward_context(recipe.anchor, batch, scene)
    log_mag = scene.features.log_mag
    logits_fn = partial(
        forward, recipe.separator, state.model_state, log_mag, batch.query
    )
    first_pass = jax.vjp(logits_fn, state.params)
    logits_old, proposal_ref = first_pass[0], None
    if recipe.old_refresh > 1:
        state = _refresh(state, recipe.old_refresh)
        logits_old = logits_fn(state.old_params)
    if state.ref_params is not None:
        proposal_ref = jax.nn.sigmoid(logits_fn(state.ref_params))
    policy = policy_at(recipe.policy, state.step)
    drawn, advantage_state, monitors = recipe.rollout(policy)(
        jax.random.fold_in(state.key, state.step),
        jax.nn.sigmoid(logits_old),
        scene.features,
        context,
        state.advantage_state,
    )
    lesson = Lesson(drawn, proposal_ref, context.active, scene)
    carry = (state.params, state.opt_state)
    (params, opt_state), metrics = run_epochs(
        recipe.tx,
        recipe.loss(policy),
        lesson,
        logits_fn,
        carry,
        first_pass,
        recipe.inner_epochs,
        recipe.kl_target,
    )
    state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=params,
        opt_state=opt_state,
        advantage_state=choose(
            metrics[SKIPPED] == 0, advantage_state, state.advantage_state
        ),
    )
    return state, monitors | metrics


def make_policy_update(
    separator: SeparatorFn,
    frontend: Frontend,
    policy: MaskPolicy | PolicyFn,
    listen: ListenFn,
    anchor: AnchorFn,
    reward: RewardFn,
    advantage: AdvantageFn,
    surrogate: SurrogateFn,
    tx: optax.GradientTransformation,
    *,
    group_size: int = 6,
    inner_epochs: int = 1,
    entropy_coef: float = 0.1,
    kl_old_coef: float = 0.01,
    kl_ref_coef: float = 0.0,
    supervised_coef: float = 0.0,
    objective: Objective | None = None,
    old_refresh: int = 1,
    estimator: Estimator | None = None,
    gain_coef: float = 1.0,
    kl_target: float | None = None,
) -> UpdateFn:
    """Build the jitted policy step (method section 4). The state is donated.

    With ``old_refresh`` 1 the sampler is the policy at the start of the step:
    one pass proposes the masks and serves the first gradient.

    A gradient step whose reward, loss or gradient is not finite is not taken, and
    the running state of the advantage then stays as it was.

    Args:
      separator: forward pass, run with frozen statistics.
      frontend: signal front end.
      policy: distribution of masks around a proposal, or that of each step, such as
        `marssep_jax.annealing.annealed_policy`.
      listen: mask -> what the reward's encoder hears.
      anchor: batch -> anchors z*.
      reward: estimate -> one scalar per mask.
      advantage: rewards -> advantages.
      surrogate: log-ratios and advantages -> J.
      tx: optimiser; it counts inner epochs, not updates.
      group_size: masks G drawn per target.
      inner_epochs: gradient steps per rollout.
      entropy_coef: lambda_H, per nat a bin.
      kl_old_coef: lambda_KL against the sampler, likewise.
      kl_ref_coef: the same against ``state.ref_params``.
      supervised_coef: weight of ``objective`` beside the policy's loss.
      objective: supervised loss; with weight 0 only monitored.
      old_refresh: updates between two refreshes of the sampler.
      estimator: way to the reward's gradient; the score function of ``group_size``
        masks by default.
      gain_coef: weight of what the reward teaches.
      kl_target: KL(pi || pi_old) in nats a bin beyond which the epochs that are left
        change nothing; None never stops them.

    Raises:
      ValueError: a number out of range, or a state that lacks what it needs.
    """
    coefs = Coefficients(
        entropy_coef, kl_old_coef, kl_ref_coef, supervised_coef, gain_coef
    )
    _check_numbers(coefs, objective, inner_epochs, old_refresh)
    if estimator is None:  # here: too small a group is told before a step is compiled
        estimator = score_estimator(group_size)

    def rollout(policy: MaskPolicy) -> RolloutFn:
        return make_rollout(policy, listen, reward, advantage, group_size, estimator)

    def loss(policy: MaskPolicy) -> LessonLoss:
        return make_policy_loss(policy, surrogate, coefs, objective)

    recipe = _Recipe(
        separator,
        frontend,
        anchor,
        policy,
        rollout,
        loss,
        tx,
        inner_epochs,
        old_refresh,
        kl_target,
        coefs,
    )
    return jax.jit(partial(_step, recipe), donate_argnums=0)
