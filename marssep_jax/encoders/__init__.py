"""Encoders of sound, text and pictures into one space, and the held-out judge."""

from marssep_jax.encoders.judge import Judge, make_judge
from marssep_jax.encoders.trimodal import Encoder, make_encoder

__all__ = ["Encoder", "Judge", "make_encoder", "make_judge"]
