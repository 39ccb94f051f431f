"""The gradient steps that one rollout is good for (method section 4)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from marssep_jax.replicas import all_devices
from marssep_jax.types import Metrics, Params
from marssep_jax.update.gradients import SKIPPED, apply_gradients, choose
from marssep_jax.update.policy_loss import Lesson, LessonLoss

Logits = Float[Array, "b k h w"]
LogitsFn = Callable[[Params], Logits]
Pullback = Callable[[Array], tuple[Params]]


def _descend(
    tx: optax.GradientTransformation,
    loss: Callable[[Logits], tuple[Array, Metrics]],
    kl_target: float | None,
    is_sound: Bool[Array, ""],
    carry: tuple[Params, Any],
    logits: Logits,
    pullback: Pullback,
) -> tuple[tuple[Params, Any], Metrics]:
    """Take one gradient step, given the network's output and its pullback.

    A policy that is further from the sampler than the target stays where it is, in
    all epochs that are left.
    """
    (value, metrics), slope = jax.value_and_grad(loss, has_aux=True)(logits)
    (grads,) = pullback(slope)
    is_sound = is_sound & jnp.isfinite(value)
    params, opt_state, norms = apply_gradients(tx, *carry, grads, is_sound)
    stepped, metrics = (params, opt_state), metrics | norms
    if kl_target is not None:
        near = all_devices(jax.lax.pmean, metrics["policy/kl_old"]) <= kl_target
        stepped = choose(near, stepped, carry)
        metrics["policy/stopped"] = 1.0 - near
    return stepped, metrics


def _repeat(
    epoch: Callable[[Any, None], tuple[Any, Metrics]], carry: Any, count: int
) -> tuple[Any, Metrics]:
    """Scan ``count`` epochs; keep the last one's metrics, and any one's skip.

    XLA runs convolutions inside a loop on one CPU core and seven times slower
    than outside, so there the scan is unrolled; a scan of length 1 cannot be.
    """
    if count == 1:
        return epoch(carry, None)
    on_cpu = jax.default_backend() == "cpu"
    carry, metrics = jax.lax.scan(epoch, carry, None, length=count, unroll=on_cpu)
    last = jax.tree.map(lambda value: value[-1], metrics)
    return carry, last | {SKIPPED: jnp.max(metrics[SKIPPED])}


def run_epochs(
    tx: optax.GradientTransformation,
    loss: LessonLoss,
    lesson: Lesson,
    logits_fn: LogitsFn,
    carry: tuple[Params, Any],
    first_pass: tuple[Logits, Pullback],
    num_epochs: int,
    kl_target: float | None,
) -> tuple[tuple[Params, Any], Metrics]:
    """Take ``num_epochs`` steps on one rollout; the first reuses a forward pass.

    Metrics are those of the last step, where the policy has moved furthest.
    ``policy/log_ratio_start`` is the largest |log ratio| at the first one.
    """
    is_sound = _rewards_are_sound(lesson)
    descend = partial(_descend, tx, partial(loss, lesson), kl_target, is_sound)
    carry, metrics = descend(carry, *first_pass)
    start, was_skipped = metrics["policy/log_ratio_max"], metrics[SKIPPED]

    def epoch(carry: tuple[Params, Any], _: None) -> tuple[Any, Metrics]:
        return descend(carry, *jax.vjp(logits_fn, carry[0]))

    if num_epochs > 1:
        carry, metrics = _repeat(epoch, carry, num_epochs - 1)
    was_skipped = jnp.maximum(was_skipped, metrics[SKIPPED])
    return carry, metrics | {"policy/log_ratio_start": start, SKIPPED: was_skipped}


def _rewards_are_sound(lesson: Lesson) -> Bool[Array, ""]:
    """Say whether all rewards that count are finite: those of absent targets do not."""
    present = lesson.active[:, :, None] > 0
    return jnp.all(jnp.isfinite(lesson.rollout.reward) | ~present)
