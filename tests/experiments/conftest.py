"""A small data set, and an encoder that needs no training."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.synthetic import synthetic_catalogue
from experiments.embeddings import EmbeddingBank
from marssep_jax.encoders import Encoder

NUM_SAMPLES, TEXT_LENGTH, DIM = 2_048, 24, 4


@pytest.fixture(scope="session")
def catalogue():
    """Return six classes of sounds, short ones; the last has no pictures."""
    return synthetic_catalogue(
        NUM_SAMPLES,
        crop_samples=1_024,
        clips_per_class=4,
        test_clips_per_class=2,
        image_size=8,
        images_per_class=4,
    )


def _project(axes, params, values):
    """Return a unit vector that depends on every number of the input."""
    flat = values.reshape(*values.shape[: values.ndim - axes], -1)
    phase = np.outer(np.arange(flat.shape[-1]), np.arange(1, DIM + 1))
    out = flat.astype(jnp.float32) @ jnp.cos(params["scale"] * phase.astype(np.float32))
    return out / jnp.linalg.norm(out, axis=-1, keepdims=True)


@pytest.fixture(scope="session")
def encoder():
    """Return an encoder of fixed projections; ``params["scale"]`` changes them."""
    sound, text, image = (partial(_project, axes) for axes in (1, 1, 3))
    return Encoder(None, sound, None, text, image, DIM)


@pytest.fixture(scope="session")
def bank(catalogue):
    """Return embeddings that are told apart by their numbers."""
    generator = np.random.default_rng(0)

    def unit(rows):
        vectors = generator.standard_normal((rows, DIM), np.float32)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    clips = {split: unit(len(rows)) for split, rows in catalogue.clips.items()}
    return EmbeddingBank(unit(len(catalogue.texts)), clips, unit(len(catalogue.images)))
