"""Rates over the steps of a stage."""

from typing import Any

from marssep_jax.config import OptimiserConfig


def rise_and_fall(plan: Any, num_steps: int) -> OptimiserConfig:
    """Let the rate rise, and fall to the end of a stage.

    Args:
      plan: has ``learning_rate``, ``weight_decay`` and ``warmup_steps``.
      num_steps: of the stage.
    """
    warmup = min(plan.warmup_steps, num_steps // 2)
    return OptimiserConfig(
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        warmup_steps=warmup,
        decay_steps=max(1, num_steps - warmup),
    )
