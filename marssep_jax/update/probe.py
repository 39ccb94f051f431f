"""What a reward can tell, and how much of an estimated gradient is signal.

The reward's limits are those of masks that need no policy: an open one, the current
one, the ideal one. What lies between them is all there is to gain.

A gradient is held against the pathwise one by its cosine. Both are gradients of the
same thing, the expected reward of a batch, by the separator's parameters. The pathwise
one has little noise; a score-function estimate whose cosine with it is near 0 moves
the parameters at random.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.advantages import leave_one_out_advantage
from marssep_jax.estimators import Estimator, pathwise_estimator
from marssep_jax.features import Frontend
from marssep_jax.objectives import analyse_scene, ratio_mask_target
from marssep_jax.rewards import active_mean
from marssep_jax.rollout import RolloutFn, make_rollout
from marssep_jax.state import TrainState
from marssep_jax.surrogates import policy_gradient
from marssep_jax.types import (
    AdvantageFn,
    AnchorFn,
    ListenFn,
    MaskPolicy,
    Metrics,
    MixtureBatch,
    Params,
    RewardFn,
    SeparatorFn,
)
from marssep_jax.update.policy import forward, reward_context
from marssep_jax.update.policy_loss import Coefficients, Lesson, make_policy_loss

GradientFn = Callable[[Params, Params, MixtureBatch, PRNGKeyArray], Params]
ProbeFn = Callable[[TrainState, MixtureBatch], Metrics]


class Hearing(NamedTuple):
    """What an expected reward is made of, apart from the estimator."""

    separator: SeparatorFn
    frontend: Frontend
    policy: MaskPolicy
    listen: ListenFn
    anchor: AnchorFn
    reward: RewardFn


def make_reward_gradient(
    hearing: Hearing, estimator: Estimator, advantage: AdvantageFn
) -> GradientFn:
    """Build the gradient by which an estimator would raise the expected reward.

    No entropy, divergence, clip or supervised loss takes part.

    Args:
      hearing: what the reward is made of.
      estimator: the way to the gradient.
      advantage: of its credit; one without a state that matters.

    Returns:
      ``gradient(params, model_state, batch, key) -> tree like params``.
    """
    # The group's size is the estimator's own.
    rollout: RolloutFn = make_rollout(
        hearing.policy, hearing.listen, hearing.reward, advantage, 1, estimator
    )
    loss = make_policy_loss(
        hearing.policy, policy_gradient(), Coefficients(0.0, 0.0, 0.0, 0.0), None
    )

    def gradient(
        params: Params, model_state: Params, batch: MixtureBatch, key: PRNGKeyArray
    ) -> Params:
        scene = analyse_scene(hearing.frontend, batch.target)
        context = reward_context(hearing.anchor, batch, scene)
        logits, pullback = jax.vjp(
            partial(
                forward,
                hearing.separator,
                model_state,
                scene.features.log_mag,
                batch.query,
            ),
            params,
        )
        drawn, _, _ = rollout(
            key, jax.nn.sigmoid(logits), scene.features, context, advantage.init()
        )
        lesson = Lesson(drawn, None, context.active, scene)
        slope, _ = jax.grad(loss, argnums=1, has_aux=True)(lesson, logits)
        (descent,) = pullback(slope)
        return jax.tree.map(jnp.negative, descent)

    return gradient


def tree_cosine(first: Params, second: Params) -> Float[Array, ""]:
    """Return the cosine of two trees of equal structure, 0 where one is all 0."""

    def dot(a: Params, b: Params) -> Array:
        products = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
        return sum(jax.tree.leaves(products), start=jnp.zeros(()))

    scale = jnp.sqrt(dot(first, first) * dot(second, second))
    cosine = dot(first, second) / jnp.where(scale > 0, scale, 1.0)
    return jnp.where(scale > 0, cosine, 0.0)


def make_probe(
    hearing: Hearing, estimator: Estimator, advantage: AdvantageFn, num_paths: int = 4
) -> ProbeFn:
    """Build the comparison of an estimator's gradient with the pathwise one.

    Args:
      hearing: what the reward is made of; its policy has a ``path``.
      estimator: that of the run.
      advantage: that of the run.
      num_paths: masks a target that the pathwise gradient is averaged over.

    Returns:
      ``probe(state, batch) -> {"policy/cos_pathwise": cosine}``, jitted; random in
      the state's key and step, and other numbers than the update draws.
    """
    estimated = make_reward_gradient(hearing, estimator, advantage)
    exact = make_reward_gradient(
        hearing, pathwise_estimator(num_paths), leave_one_out_advantage()
    )

    @jax.jit
    def probe(state: TrainState, batch: MixtureBatch) -> Metrics:
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 1)
        first, second = jax.random.split(key)
        arguments = (state.params, state.model_state, batch)
        cosine = tree_cosine(estimated(*arguments, first), exact(*arguments, second))
        return {"policy/cos_pathwise": cosine}

    return probe


def make_limits(hearing: Hearing) -> ProbeFn:
    """Build the reward of the mixture, of the current masks and of the ideal ones.

    Args:
      hearing: what the reward is made of.

    Returns:
      ``limits(state, batch) -> {"reward/of_mixture", "reward/of_mode",
      "reward/of_ideal"}``, jitted: means over active targets under an open mask, the
      policy's mode, and the ideal ratio mask.
    """

    @jax.jit
    def limits(state: TrainState, batch: MixtureBatch) -> Metrics:
        scene = analyse_scene(hearing.frontend, batch.target)
        context = reward_context(hearing.anchor, batch, scene)
        log_mag = scene.features.log_mag
        logits = forward(
            hearing.separator, state.model_state, log_mag, batch.query, state.params
        )
        mode = hearing.policy.mode(jax.nn.sigmoid(logits))
        ideal = ratio_mask_target(scene.target_magnitude)
        masks = jnp.stack([jnp.ones_like(mode), mode, ideal], axis=2)
        found = hearing.reward(hearing.listen(masks, scene.features), context)
        names = ("reward/of_mixture", "reward/of_mode", "reward/of_ideal")
        levels = (active_mean(found[..., g], context.active) for g in range(3))
        return dict(zip(names, levels, strict=True))

    return limits
