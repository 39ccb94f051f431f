"""One training step as one jitted function: (state, batch) -> (state, metrics)."""

from marssep_jax.update.policy import make_policy_update
from marssep_jax.update.supervised import make_supervised_update

__all__ = ["make_policy_update", "make_supervised_update"]
