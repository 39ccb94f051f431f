"""The loss of mask logits under a fixed rollout (method section 4)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from marssep_jax.objectives import Objective, Scene
from marssep_jax.rewards import active_mean
from marssep_jax.rollout import group_log_prob
from marssep_jax.types import MaskPolicy, Metrics, Rollout, SurrogateFn


class Coefficients(NamedTuple):
    """Weights of the objective's terms; ``gain`` is that of surrogate and slope."""

    entropy: float
    kl_old: float
    kl_ref: float
    supervised: float
    gain: float = 1.0


class Lesson(NamedTuple):
    """What the inner epochs of one update hold fixed.

    ``proposal_ref`` is the supervised start's proposal, None without one.
    """

    rollout: Rollout
    proposal_ref: Float[Array, "b k h w"] | None
    active: Float[Array, "b k"]
    scene: Scene


LessonLoss = Callable[[Lesson, Float[Array, "b k h w"]], tuple[Array, Metrics]]


def make_policy_loss(
    policy: MaskPolicy,
    surrogate: SurrogateFn,
    coefficients: Coefficients,
    objective: Objective | None,
) -> LessonLoss:
    """Build -J plus the supervised loss, as a function of mask logits.

    J = gain (surrogate + slope (P - P_old)) + lambda_H H(pi)
    - lambda_KL KL(pi || pi_old) - lambda_ref KL(pi || pi_ref).

    The slope, where the estimator has one, is the derivative of a target's expected
    reward; its product is summed over bins and averaged over targets.

    Entropy and divergences are means over bins, in nats a bin. The entropy is
    that of active targets, because a target that is absent has no reward to
    hold it against the pull to P = 1/2; the divergences take in every target. What
    has weight 0 is reported, and nothing is differentiated for it.

    Args:
      policy: distribution of masks around a proposal.
      surrogate: per-bin log-ratios and advantages -> objective.
      coefficients: the lambdas.
      objective: supervised loss, or None. With weight 0 it is only reported.

    Returns:
      ``loss(lesson, logits) -> (loss, metrics)``.
    """

    def loss_fn(
        lesson: Lesson, logits: Float[Array, "b k h w"]
    ) -> tuple[Float[Array, ""], Metrics]:
        rollout, proposal = lesson.rollout, jax.nn.sigmoid(logits)
        seen = jax.lax.stop_gradient(proposal)  # by what is only reported

        def weighed(weight: float) -> Array:
            return proposal if weight else seen

        advantage, scored = rollout.advantage, proposal
        if advantage is None:  # the slope alone teaches
            advantage, scored = jnp.zeros_like(rollout.reward), seen
        log_prob = group_log_prob(policy, scored, rollout.mask)
        log_ratio = log_prob - rollout.log_prob_old
        gain, metrics = surrogate(log_ratio, advantage)
        if rollout.slope is not None:
            move = rollout.slope * (proposal - rollout.proposal_old)
            climb = jnp.mean(jnp.sum(move, axis=(-2, -1)))
            gain, metrics = gain + climb, metrics | {"policy/slope_gain": climb}
        per_target = jnp.mean(
            policy.entropy(weighed(coefficients.entropy)), axis=(-2, -1)
        )
        entropy = active_mean(per_target, lesson.active)
        followed = weighed(coefficients.kl_old)
        kl_old = jnp.mean(policy.kl(followed, rollout.proposal_old))
        loss = coefficients.kl_old * kl_old - coefficients.entropy * entropy
        loss = loss - coefficients.gain * gain
        metrics = metrics | {
            "policy/objective": gain,
            "policy/entropy": entropy,
            "policy/kl_old": kl_old,
            "policy/log_ratio_max": jnp.max(jnp.abs(log_ratio)),
        }
        if lesson.proposal_ref is not None:
            followed = weighed(coefficients.kl_ref)
            kl_ref = jnp.mean(policy.kl(followed, lesson.proposal_ref))
            loss = loss + coefficients.kl_ref * kl_ref
            metrics["policy/kl_ref"] = kl_ref
        if objective is not None:
            supervised, extra = objective(logits, lesson.scene)
            if coefficients.supervised:
                loss = loss + coefficients.supervised * supervised
            metrics = metrics | extra
        return loss, metrics | {"policy/loss": loss}

    return loss_fn
