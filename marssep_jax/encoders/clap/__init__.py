"""LAION's CLAP: an audio and a text tower into one space, for judging only."""

from marssep_jax.encoders.clap.clips import make_clip_embedding
from marssep_jax.encoders.clap.config import (
    HTSAT_BASE,
    HTSAT_TINY,
    HTSAT_TINY_FUSED,
    ClapAudioConfig,
    ClapConfig,
    ClapTextConfig,
)
from marssep_jax.encoders.clap.model import Clap, make_clap

__all__ = [
    "HTSAT_BASE",
    "HTSAT_TINY",
    "HTSAT_TINY_FUSED",
    "Clap",
    "ClapAudioConfig",
    "ClapConfig",
    "ClapTextConfig",
    "make_clap",
    "make_clip_embedding",
]
