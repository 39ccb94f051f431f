"""Separator networks behind one pair of pure functions."""

from marssep_jax.models.separator import Separator, make_separator

__all__ = ["Separator", "make_separator"]
