"""The held-out judge: a classifier that no training stage ever sees (ours).

One-dimensional convolutions over time with all bands as channels and layer norm:
another architecture, objective and seed than the reward's encoder, so that what
pleases both is not a quirk of one.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.config import FrontendConfig, JudgeConfig
from marssep_jax.features import make_frontend
from marssep_jax.layers import jit_once, peak, relative_level
from marssep_jax.types import Params

# About 30 dB below the clip's level: quieter bins say nothing about its class.
RELATIVE_FLOOR = 0.03


class Judge(NamedTuple):
    """``log_prob(params, waveform [..., t]) -> [..., c]``: class log-probabilities."""

    init: Callable[[PRNGKeyArray], Params]
    log_prob: Callable[[Params, Float[Array, "*b t"]], Float[Array, "*b c"]]


class JudgeNet(nn.Module):
    """Classify clips from bands over time."""

    width: int
    num_classes: int

    @nn.compact
    def __call__(self, bands: Float[Array, "b w h"]) -> Float[Array, "b c"]:
        """Return class logits."""
        value = bands
        for stride in (2, 2, 1):
            value = nn.Conv(self.width, (5,), (stride,), use_bias=False)(value)
            value = nn.relu(nn.LayerNorm()(value))
        weight = nn.softmax(nn.Dense(1)(value), axis=1)
        pooled = jnp.concatenate([jnp.sum(weight * value, 1), peak(value, 1)], axis=-1)
        return nn.Dense(self.num_classes)(pooled)


def make_judge(
    config: JudgeConfig, frontend_config: FrontendConfig, num_classes: int
) -> Judge:
    """Build a judge over ``num_rows`` averaged log-frequency bands."""
    rows = dataclasses.replace(
        frontend_config, num_rows=config.num_rows, average_rows=True
    )
    frontend = make_frontend(rows)
    net = JudgeNet(config.width, num_classes)

    def log_prob(params: Params, waveform: Array) -> Array:
        flat = waveform.reshape(-1, waveform.shape[-1])
        bands = relative_level(frontend.analyse(flat).log_mag, RELATIVE_FLOOR)
        bands = jnp.swapaxes(bands, 1, 2)
        logits = cast(Array, net.apply({"params": params}, bands))
        return jax.nn.log_softmax(logits).reshape(*waveform.shape[:-1], num_classes)

    def init(key: PRNGKeyArray) -> Params:
        return net.init(key, jnp.zeros((1, 16, config.num_rows)))["params"]

    return Judge(jit_once(init), log_prob)
