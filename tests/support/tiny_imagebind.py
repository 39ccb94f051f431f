"""A converted ImageBind of a few numbers."""

import jax
import numpy as np

from marssep_jax.encoders.imagebind import ImageBindConfig, make_imagebind
from marssep_jax.weights.store import save_encoder

TINY = ImageBindConfig(
    embed_dim=12,
    **{"audio_width": 16, "audio_blocks": 1, "audio_heads": 2},
    **{"image_width": 16, "image_blocks": 1, "image_heads": 2},
    **{"text_width": 16, "text_blocks": 1, "text_heads": 2},
)


def save_tiny(folder, architecture="imagebind", seed=0):
    """Save random weights as a converted encoder and return the folder's name."""
    generator = np.random.default_rng(seed)
    shapes = jax.eval_shape(make_imagebind(TINY).init, jax.random.key(0))
    params = jax.tree.map(
        lambda leaf: generator.normal(0, 0.1, leaf.shape).astype(leaf.dtype), shapes
    )
    save_encoder(folder, architecture, TINY, params, "CC BY-NC-SA 4.0", {})
    return str(folder)
