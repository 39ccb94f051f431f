"""A toy world that every test of the training path shares.

Two tones in mixtures of random levels and phases, one-hot queries, a separator
with one logit per query and row, and a fixed encoder that hears how the
magnitude is spread over rows. Everything else is the real thing: STFT, grid,
policy, inverse STFT.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from marssep_jax.config import FrontendConfig
from marssep_jax.features import Frontend, make_frontend
from marssep_jax.listening import make_waveform_listener
from marssep_jax.objectives import analyse_scene
from marssep_jax.types import AnchorFn, ListenFn, MixtureBatch, SeparatorFn

TONES_HZ = (500.0, 1_500.0)
CONFIG = FrontendConfig(
    sample_rate_hz=8_000, num_samples=1_023, n_fft=256, hop=64, num_rows=32
)


class World(NamedTuple):
    frontend: Frontend
    separator: SeparatorFn
    init_params: object
    listen: ListenFn
    anchor: AnchorFn
    encode: object
    encode_grid: object

    @partial(jax.jit, static_argnums=(0, 2, 3))
    def batch(self, key, num_mixtures=4, num_absent=0):
        """Draw mixtures of both tones; absent queries repeat the last one's."""
        level_key, phase_key = jax.random.split(key)
        shape = (num_mixtures, len(TONES_HZ), 1)
        level = jax.random.uniform(level_key, shape, minval=0.2, maxval=0.4)
        phase = 2 * jnp.pi * jax.random.uniform(phase_key, shape)
        time = jnp.arange(CONFIG.num_samples) / CONFIG.sample_rate_hz
        turns = 2 * jnp.pi * jnp.outer(jnp.array(TONES_HZ), time)
        target = level * jnp.sin(turns[None] + phase)
        query = jnp.broadcast_to(jnp.eye(3)[None, :2], (num_mixtures, 2, 3))
        if num_absent:
            silent = ((0, 0), (0, num_absent), (0, 0))
            target = jnp.pad(target, silent)
            extra = jnp.broadcast_to(
                jnp.eye(3)[None, 2:], (num_mixtures, num_absent, 3)
            )
            query = jnp.concatenate([query, extra], axis=1)
        label = jnp.broadcast_to(jnp.arange(query.shape[1])[None], query.shape[:2])
        return MixtureBatch(target, query, query, jnp.zeros_like(query), label)


def _separator(module):
    def apply(params, model_state, log_mag, query, *, train=False):
        rows = module.apply({"params": params}, query)[..., None]
        shape = (*rows.shape[:-1], log_mag.shape[-1])
        return jnp.broadcast_to(rows, shape), model_state

    return apply


def _profile(magnitude):
    rows = jnp.mean(magnitude, axis=-1)
    return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="session")
def world():
    frontend = make_frontend(CONFIG)
    module = nn.Dense(
        CONFIG.num_rows, use_bias=False, kernel_init=nn.initializers.zeros
    )

    def encode(waveform):
        return _profile(frontend.analyse(waveform).grid_magnitude)

    return World(
        frontend=frontend,
        separator=_separator(module),
        init_params=lambda: module.init(jax.random.key(0), jnp.zeros((1, 1, 3)))[
            "params"
        ],
        listen=make_waveform_listener(frontend, encode),
        anchor=lambda batch: encode(batch.target),
        encode=encode,
        encode_grid=lambda log_mag: _profile(jnp.exp(log_mag)),
    )


@pytest.fixture(scope="session")
def batch(world):
    """Four mixtures of two tones."""
    return world.batch(jax.random.key(0))


@pytest.fixture(scope="session")
def scene(world, batch):
    """Their analysis."""
    return jax.jit(partial(analyse_scene, world.frontend))(batch.target)
