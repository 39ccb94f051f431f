"""A concentration that changes along a run, in one compiled step.

Broad masks explore, narrow ones end near the mask that is used: kappa goes in stages,
geometrically, from one value to another. The tables of all stages are made beforehand;
a step picks those of its own.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from marssep_jax.config import PolicyConfig
from marssep_jax.policy import make_mask_policy
from marssep_jax.quantiles import make_concentration
from marssep_jax.types import MaskPolicy

PolicyFn = Callable[[Int[Array, ""]], MaskPolicy]
"""The policy of a step."""

NUM_STAGES = 16
"""A stage of both tables takes 0.27 MB."""


def stage_kappas(start: float, end: float, num_steps: int) -> np.ndarray:
    """Return the concentration of every stage, the first at ``start``."""
    return np.geomspace(start, end, min(NUM_STAGES, num_steps))


def annealed_policy(config: PolicyConfig, num_steps: int) -> PolicyFn:
    """Build the policies of a run whose kappa begins at ``config.kappa_start``.

    Args:
      config: of the policy at the end; its ``kappa_start`` is positive.
      num_steps: of the run; later steps keep the last stage.

    Returns:
      ``policy(step)``, for a step that may be traced.

    Raises:
      ValueError: a concentration that is not positive, or no steps.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, expected >= 1")
    if not config.kappa_start > 0:
        raise ValueError(f"kappa_start is {config.kappa_start}, expected > 0")
    kappas = stage_kappas(config.kappa_start, config.kappa, num_steps)
    stages = [make_concentration(float(kappa)) for kappa in kappas]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *stages)

    def policy(step: Int[Array, ""]) -> MaskPolicy:
        stage = jnp.minimum(step * len(stages) // num_steps, len(stages) - 1)
        picked = jax.tree.map(lambda leaf: jnp.asarray(leaf)[stage], stacked)
        return make_mask_policy(config, picked)

    return policy


def policy_at(policy: MaskPolicy | PolicyFn, step: Int[Array, ""]) -> MaskPolicy:
    """Return the policy of a step, of one that may be the same for all."""
    return policy if isinstance(policy, MaskPolicy) else policy(step)
