"""A small audio-text-vision encoder in one space (ours).

Stands where ImageBind stands in the paper: three trunks, three heads and one
temperature. Words may go through a published sentence encoder instead of the trunk
of its own.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from marssep_jax.checks import require
from marssep_jax.config import EncoderConfig, FrontendConfig, from_dict
from marssep_jax.encoders.backbones import backbones_of, read_sizes
from marssep_jax.encoders.contract import KINDS, Encoder, normalise
from marssep_jax.encoders.minilm import MiniLmConfig, make_minilm
from marssep_jax.encoders.text import PAD_ID
from marssep_jax.features import make_frontend
from marssep_jax.layers import ConvBlock, jit_once, peak, relative_level
from marssep_jax.types import Params

# InfoNCE divides by exp(log_temperature); 0.07 is CLIP's start.
INITIAL_LOG_TEMPERATURE = -2.659
# About 30 dB below the clip's level: quieter bins say nothing about its class.
RELATIVE_FLOOR = 0.03
# The full grid is where convolutions cost most and say least.
AUDIO_STRIDE = 4
# Axes of one item that a trunk takes.
RANKS = {"audio": 2, "text": 1, "image": 3}


class Trunk(NamedTuple):
    """``init(key, example)`` and ``apply(params, value [b, ...]) -> [b, f]``."""

    init: Callable[[PRNGKeyArray, Array], Params]
    apply: Callable[[Params, Array], Float[Array, "b f"]]


class ConvTrunk(nn.Module):
    """Convolutions that halve the grid, the first of them ``first_stride``-fold."""

    widths: tuple[int, ...]
    first_stride: int

    @nn.compact
    def __call__(self, value: Float[Array, "b h w c"]) -> Float[Array, "b i j e"]:
        """Run the blocks; a grid that does not divide is padded by its edge."""
        multiple = self.first_stride * 2 ** (len(self.widths) - 1)
        rows, columns = (-size % multiple for size in value.shape[1:3])
        value = jnp.pad(value, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="edge")
        for level, width in enumerate(self.widths):
            value = ConvBlock(width, 2 if level else self.first_stride)(value)
        return value


class AudioTrunk(nn.Module):
    """Convolutions on the log-frequency grid, pooled over time only.

    Rows stay apart: an instrument is known by where its energy lies.
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, log_mag: Float[Array, "b h w"]) -> Float[Array, "b e"]:
        """Return one vector a clip."""
        level = relative_level(log_mag, RELATIVE_FLOOR)
        value = ConvTrunk(self.widths, AUDIO_STRIDE)(level[..., None])
        pooled = jnp.concatenate([value.mean(axis=2), peak(value, 2)], axis=-1)
        return pooled.reshape(pooled.shape[0], -1)


class TextTrunk(nn.Module):
    """Mean of hashed byte 3-gram and 4-gram embeddings."""

    buckets: int
    width: int = 128

    @nn.compact
    def __call__(self, ids: Int[Array, "b l"]) -> Float[Array, "b e"]:
        """Return one vector a caption."""
        table = self.param(
            "table", nn.initializers.normal(1.0), (self.buckets, self.width)
        )
        total = jnp.zeros((ids.shape[0], self.width))
        count = jnp.zeros((ids.shape[0], 1))
        for size in (3, 4):
            span = ids.shape[1] - size + 1
            code = jnp.zeros((ids.shape[0], span), jnp.uint32)
            for offset in range(size):
                # Knuth's multiplicative hash, chained over the bytes.
                code = code + ids[:, offset : offset + span].astype(jnp.uint32) + 1
                code = code * jnp.uint32(2654435761)
            inside = (ids[:, size - 1 :] != PAD_ID).astype(jnp.float32)
            rows = table[(code >> 16) % self.buckets]
            total = total + jnp.sum(rows * inside[..., None], axis=1)
            count = count + jnp.sum(inside, axis=1, keepdims=True)
        mean = total / jnp.maximum(count, 1.0)
        return nn.LayerNorm()(mean)


class ImageTrunk(nn.Module):
    """Strided convolutions on pixels, averaged over the plane."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, pixels: UInt8[Array, "b s s 3"]) -> Float[Array, "b e"]:
        """Return one vector a picture."""
        value = pixels.astype(jnp.float32) / 127.5 - 1.0
        value = ConvTrunk(self.widths, 2)(value)
        value = value.reshape(value.shape[0], -1, value.shape[-1])
        return jnp.concatenate([value.mean(axis=1), peak(value, 1)], axis=-1)


def make_small_encoder(
    config: EncoderConfig, frontend_config: FrontendConfig
) -> Encoder:
    """Build the encoder for one front end.

    The front end's rows and sample rate fix what the audio trunk hears; clips of
    any length are accepted, being pooled over time.

    Raises:
      ValueError: a published text tower that is not there, or for shorter captions.
    """
    frontend = make_frontend(frontend_config)
    trunks = {
        "audio": _own(AudioTrunk(config.audio_widths)),
        "text": _text_trunk(config),
        "image": _own(ImageTrunk(config.image_widths)),
    }
    dense = nn.Dense(config.embed_dim, use_bias=False)

    def features(kind: str, params: Params, value: Array) -> Array:
        lead = value.shape[: value.ndim - RANKS[kind]]
        flat = value.reshape(math.prod(lead), *value.shape[len(lead) :])
        found = trunks[kind].apply(params[kind], flat)
        return found.reshape(*lead, found.shape[-1])

    def head(kind: str, params: Params, feature: Array) -> Array:
        tree = {"params": params[f"{kind}_head"]}
        return normalise(cast(Array, dense.apply(tree, feature)))

    def embed(kind: str, params: Params, value: Array) -> Array:
        return head(kind, params, features(kind, params, value))

    def grid_of(waveform: Array) -> Array:
        return frontend.analyse(waveform).log_mag

    def init(key: PRNGKeyArray) -> Params:
        size = config.image_size
        examples = {
            "audio": jnp.zeros((1, frontend_config.num_rows, 64)),
            "text": jnp.ones((1, config.text_length), jnp.int32),
            "image": jnp.zeros((1, size, size, 3), jnp.uint8),
        }
        params = {"log_temperature": jnp.asarray(INITIAL_LOG_TEMPERATURE, jnp.float32)}
        for kind, example in examples.items():
            key, trunk_key, head_key = jax.random.split(key, 3)
            params[kind] = trunks[kind].init(trunk_key, example)
            hidden = trunks[kind].apply(params[kind], example)
            params[f"{kind}_head"] = dense.init(head_key, hidden)["params"]
        return params

    return Encoder(
        init=jit_once(init),
        audio=lambda params, waveform: embed("audio", params, grid_of(waveform)),
        audio_from_grid=partial(embed, "audio"),
        text=partial(embed, "text"),
        image=partial(embed, "image"),
        embed_dim=config.embed_dim,
        features={
            "audio": lambda params, waveform: features(
                "audio", params, grid_of(waveform)
            ),
            "text": partial(features, "text"),
            "image": partial(features, "image"),
        },
        heads={kind: partial(head, kind) for kind in KINDS},
    )


def _own(module: nn.Module) -> Trunk:
    """Return the functions of a module that has no state but parameters."""
    return Trunk(
        init=lambda key, example: module.init(key, example).get("params", {}),
        apply=lambda params, value: cast(
            Array, module.apply({"params": params}, value)
        ),
    )


def _text_trunk(config: EncoderConfig) -> Trunk:
    """Return the small encoder's own trunk for words, or the published one."""
    if config.text_tower == "hashed":
        return _own(TextTrunk(config.text_buckets))
    (backbone,) = backbones_of(config)
    sizes = from_dict(MiniLmConfig, read_sizes(backbone))
    name, longest = "config.encoder.text_length", sizes.num_positions
    length = config.text_length
    require(
        3 <= length <= longest, name, length, f"3 to {longest}, as the weights have"
    )
    require(sizes.pad_id == PAD_ID, "pad_id", sizes.pad_id, f"{PAD_ID}, as inputs have")
    sentences = make_minilm(sizes)
    return Trunk(lambda key, example: sentences.init(key), sentences.text)
