"""ImageBind's towers of sound, words and pictures (Girdhar et al., 2023)."""

from marssep_jax.encoders.imagebind.config import ImageBindConfig
from marssep_jax.encoders.imagebind.encoder import make_imagebind_encoder
from marssep_jax.encoders.imagebind.model import (
    ImageBind,
    make_imagebind,
    mean_of_clips,
)

__all__ = [
    "ImageBind",
    "ImageBindConfig",
    "make_imagebind",
    "make_imagebind_encoder",
    "mean_of_clips",
]
