"""Fuse the embeddings of one target into its reward anchor (method section 2).

``mlbp`` is the paper's multimodal low-rank bilinear pooling: z* = normalise(W
(prod_m (U_m z_m + b_m) - c)), where the offset c is ours. The others are the
ablation: mean, max, a learned weighted sum, text only, audio only. A missing
modality is an all-zero vector and drops out, of the product as of the sums.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.config import EncoderConfig
from marssep_jax.encoders.contract import normalise
from marssep_jax.types import Params

Embedding = Float[Array, "*b d"]


class Fusion(NamedTuple):
    """``apply(params, audio, text, image)`` returns unit anchors [..., d]."""

    init: Callable[[PRNGKeyArray], Params]
    apply: Callable[[Params, Embedding, Embedding, Embedding], Embedding]


def _present(value: Array) -> Array:
    return (jnp.sum(jnp.abs(value), axis=-1, keepdims=True) > 0).astype(value.dtype)


def _no_params(key: PRNGKeyArray) -> Params:
    del key
    return {}


def mlbp_fusion(dim: int, rank: int) -> Fusion:
    """Pool by low-rank bilinear products.

    Each factor starts near one (b = 1, small U) and the output starts as the
    transpose of the common U, so an untrained pooling is close to the mean of
    the modalities and training only has to add their interaction.
    """

    def init(key: PRNGKeyArray) -> Params:
        basis = jax.random.normal(key, (dim, rank)) / jnp.sqrt(rank)
        return {
            "project": jnp.stack([0.3 * basis] * 3),
            "bias": jnp.ones((3, rank)),
            "output": basis.T / jnp.sqrt(dim),
            "offset": jnp.ones((rank,)),
        }

    def apply(params: Params, audio: Array, text: Array, image: Array) -> Array:
        product = jnp.ones((*audio.shape[:-1], params["bias"].shape[-1]))
        for index, value in enumerate((audio, text, image)):
            factor = value @ params["project"][index] + _lift(
                params["bias"][index], value.ndim
            )
            product = product * jnp.where(_present(value) > 0, factor, 1.0)
        centred = product - _lift(params["offset"], product.ndim)
        return normalise(centred @ params["output"])

    return Fusion(init, apply)


def _lift(vector: Array, ndim: int) -> Array:
    return vector.reshape((1,) * (ndim - 1) + vector.shape)


def mean_fusion() -> Fusion:
    """Average the present modalities."""
    return Fusion(_no_params, lambda params, *values: normalise(sum(values)))


def max_fusion() -> Fusion:
    """Take the largest entry over the present modalities."""

    def apply(params: Params, *values: Array) -> Array:
        stacked = jnp.stack(
            [jnp.where(_present(value) > 0, value, -jnp.inf) for value in values]
        )
        top = jnp.max(stacked, axis=0)
        return normalise(jnp.where(jnp.isfinite(top), top, 0.0))

    return Fusion(_no_params, apply)


def weighted_fusion() -> Fusion:
    """Sum the present modalities with learned positive weights."""

    def apply(params: Params, *values: Array) -> Array:
        weight = jax.nn.softmax(params["logits"])
        return normalise(sum(w * v for w, v in zip(weight, values, strict=True)))

    return Fusion(lambda key: {"logits": jnp.zeros((3,))}, apply)


def single_fusion(index: int) -> Fusion:
    """Use one modality alone: 0 audio, 1 text, 2 image."""
    return Fusion(_no_params, lambda params, *values: normalise(values[index]))


def make_fusion(config: EncoderConfig) -> Fusion:
    """Build the pooling that a configuration names."""
    table: dict[str, Callable[[], Fusion]] = {
        "mlbp": lambda: mlbp_fusion(config.embed_dim, config.pooling_rank),
        "mean": mean_fusion,
        "max": max_fusion,
        "weighted": weighted_fusion,
        "audio": lambda: single_fusion(0),
        "text": lambda: single_fusion(1),
    }
    return table[config.pooling]()
