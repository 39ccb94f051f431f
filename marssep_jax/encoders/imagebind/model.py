"""ImageBind as pure functions over one tree of parameters.

The tree's first level names the parts that an alignment stage may train, as the
small encoder's does: ``audio``, ``audio_head``, ``text``, ``text_head``,
``image``, ``image_head`` and ``log_temperature``. ImageBind's vectors have a
length that differs by modality, its words by a learnt factor; here all vectors
are unit vectors, and `ImageBind.scales` returns the factors. What the published
model returns for the clips of one recording, or for a text, is::

    model.scales(params)["audio"] * mean_of_clips(model.audio(params, mel))
    model.scales(params)["text"] * model.text(params, ids)

Inputs are channels last; the published model's differ by their axes only:

========= =========================== ==============================
input     here                        published
========= =========================== ==============================
``audio`` ``[*b, mel, frame]``        ``[b, s, 1, mel, frame]``
``image`` ``[*b, row, column, 3]``    ``[b, 3, row, column]``
``video`` ``[*b, 2, row, column, 3]`` ``[b, s, 3, 2, row, column]``
========= =========================== ==============================
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.encoders.contract import normalise
from marssep_jax.encoders.imagebind.config import ImageBindConfig
from marssep_jax.encoders.imagebind.towers import (
    FRAMES,
    AudioTrunk,
    Head,
    ImageTrunk,
    TextTrunk,
)
from marssep_jax.layers import jit_once
from marssep_jax.types import Params

AUDIO_SCALE = 20.0  # imagebind: a constant, not trained
LARGEST_TEXT_SCALE = 100.0
# imagebind: ln(1 / 0.07) before training; what InfoNCE divides by is its inverse.
INITIAL_LOG_TEMPERATURE = math.log(0.07)

FeatureFn = Callable[[Params, Array], Float[Array, "*b f"]]
EmbedFn = Callable[[Params, Array], Float[Array, "*b d"]]
# Of each kind of input: the shape of one item, and what a message calls it.
Items = dict[str, tuple[tuple[int, ...], str]]


class ImageBind(NamedTuple):
    """Pure functions; ``d`` is the embedding dimension, vectors have unit length.

    Inputs: ``audio`` normalised log-mel pictures [*b, h, w] of one clip each,
    ``text`` token ids [*b, l], l at most the table of positions, ``image``
    normalised pixels [*b, s, s, 3], ``video`` two frames [*b, 2, s, s, 3], of which
    ``image`` is the case of equal ones. Clips are one of the free axes ``*b``:
    `mean_of_clips` averages them. A wrong shape or kind of number is a ValueError.

    ``features[modality]`` stops before the head, at what a frozen trunk gives:
    [*b, f], f the trunk's width; ``heads[modality]`` goes on from there.
    ``video`` has the features and the head of ``image``. ``scales(params)`` says
    by what the published model multiplies the vectors of each modality.
    """

    init: Callable[[PRNGKeyArray], Params]
    audio: EmbedFn
    text: EmbedFn
    image: EmbedFn
    video: EmbedFn
    features: dict[str, FeatureFn]
    heads: dict[str, EmbedFn]
    scales: Callable[[Params], dict[str, Array]]
    embed_dim: int


def mean_of_clips(embedding: Float[Array, "*b s d"]) -> Float[Array, "*b d"]:
    """Average the clips of one recording, as ImageBind does: not a unit vector.

    For cosines apply `normalise` of `marssep_jax.encoders.contract`.
    """
    return embedding.mean(axis=-2)


def _check(value: Array, name: str, shape: tuple[int, ...]) -> None:
    """Compare an input with the shape of one item; texts may be shorter."""
    found = value.shape[-len(shape) :]
    if name == "ids":
        expected = f"integers [..., l], 1 <= l <= {shape[0]}"
        fits = len(found) == 1 and 1 <= found[0] <= shape[0]
        fits = fits and jnp.issubdtype(value.dtype, jnp.integer)
    else:
        expected = f"floats [..., {', '.join(map(str, shape))}]"
        fits = found == shape and jnp.issubdtype(value.dtype, jnp.floating)
    if not fits:
        raise ValueError(
            f"{name} is {value.dtype} {list(value.shape)}, expected {expected}"
        )


def _scales(params: Params) -> dict[str, Array]:
    text = jnp.minimum(jnp.exp(-params["log_temperature"]), LARGEST_TEXT_SCALE)
    return {"audio": jnp.asarray(AUDIO_SCALE), "text": text, "image": jnp.ones(())}


def _draw(
    trunks: dict[str, nn.Module], head: nn.Module, items: Items, key: PRNGKeyArray
) -> Params:
    """Draw parameters for the sizes of the inputs."""
    params = {"log_temperature": jnp.asarray(INITIAL_LOG_TEMPERATURE, jnp.float32)}
    for kind, trunk in trunks.items():
        key, trunk_key, head_key = jax.random.split(key, 3)
        shape = (1, *items["image"][0]) if kind == "image" else items[kind][0]
        dtype = jnp.int32 if kind == "text" else jnp.float32
        example = jnp.zeros((1, *shape), dtype)
        found, variables = trunk.init_with_output(trunk_key, example)
        params[kind] = variables["params"]
        params[f"{kind}_head"] = head.init(head_key, found)["params"]
    return params


def make_imagebind(config: ImageBindConfig = ImageBindConfig()) -> ImageBind:  # noqa: B008
    """Build the model of a configuration."""
    rows, frames, size = config.mel_rows, config.mel_frames, config.image_size
    items: Items = {
        "audio": ((rows, frames), "mel"),
        "text": ((config.text_length,), "ids"),
        "image": ((size, size, 3), "pixels"),
        "video": ((FRAMES, size, size, 3), "pixels"),
    }
    trunks: dict[str, nn.Module] = {
        "audio": AudioTrunk(config),
        "text": TextTrunk(config),
        "image": ImageTrunk(config),
    }
    head = Head(config.embed_dim)
    dtype = jnp.dtype(config.dtype)

    def cast_all(params: Params) -> Params:
        return jax.tree.map(lambda leaf: leaf.astype(dtype), params)

    def make_features(kind: str) -> FeatureFn:
        shape, name = items[kind]
        modality = "image" if kind == "video" else kind
        rank = len(shape)

        def features(params: Params, value: Array) -> Array:
            _check(value, name, shape)
            lead, item = value.shape[:-rank], value.shape[-rank:]
            flat = value.reshape(math.prod(lead), *item)
            if kind == "image":
                flat = flat[:, None]
            if kind != "text":
                flat = flat.astype(dtype)
            tree = {"params": cast_all(params[modality])}
            found = cast(Array, trunks[modality].apply(tree, flat))
            return found.reshape(*lead, found.shape[-1])

        return features

    def make_head(modality: str) -> EmbedFn:
        def embed(params: Params, feature: Array) -> Array:
            lead, flat = feature.shape[:-1], feature.reshape(-1, feature.shape[-1])
            tree = {"params": params[f"{modality}_head"]}
            found = cast(Array, head.apply(tree, flat.astype(jnp.float32)))
            return normalise(found).reshape(*lead, config.embed_dim)

        return embed

    features = {kind: make_features(kind) for kind in items}
    heads = {kind: make_head("image" if kind == "video" else kind) for kind in items}

    def make_embed(kind: str) -> EmbedFn:
        return lambda params, value: heads[kind](params, features[kind](params, value))

    return ImageBind(
        init=jit_once(partial(_draw, trunks, head, items)),
        **{kind: make_embed(kind) for kind in items},
        features=features,
        heads=heads,
        scales=_scales,
        embed_dim=config.embed_dim,
    )
