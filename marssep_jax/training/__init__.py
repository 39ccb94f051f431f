"""The host loop of a training stage."""

from marssep_jax.training.loop import run
from marssep_jax.training.records import Best, EarlyStop, TrainingResult

__all__ = ["Best", "EarlyStop", "TrainingResult", "run"]
