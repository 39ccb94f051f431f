"""What every encoder of this package is: pure functions over one tree of parameters.

The tree's first level names the parts that an alignment stage may train: ``audio``,
``audio_head``, ``text``, ``text_head``, ``image``, ``image_head`` and
``log_temperature``. Each embedding is a head's view of a trunk's features::

    encoder.audio(params, waveform)
    encoder.heads["audio"](params, encoder.features["audio"](params, waveform))

are the same. Features of a frozen trunk can therefore be computed once and kept.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from marssep_jax.types import Params

KINDS = ("audio", "text", "image")
NORM_EPS = 1e-6

FeatureFn = Callable[[Params, Array], Float[Array, "*b f"]]
HeadFn = Callable[[Params, Float[Array, "*b f"]], Float[Array, "*b d"]]


class Encoder(NamedTuple):
    """Pure functions of an encoder; ``d`` is the embedding dimension.

    ``audio(params, waveform [..., t])``, ``audio_from_grid(params, log_mag
    [..., h, w])``, ``text(params, ids [..., l])`` and ``image(params, pixels
    uint8 [..., s, s, 3])`` return unit vectors [..., d]. ``features[kind]`` stops
    before the head, at [..., f], and ``heads[kind]`` goes on from there.
    """

    init: Callable[[PRNGKeyArray], Params]
    audio: Callable[[Params, Float[Array, "*b t"]], Float[Array, "*b d"]]
    audio_from_grid: Callable[[Params, Float[Array, "*b h w"]], Float[Array, "*b d"]]
    text: Callable[[Params, Int[Array, "*b l"]], Float[Array, "*b d"]]
    image: Callable[[Params, UInt8[Array, "*b s s 3"]], Float[Array, "*b d"]]
    embed_dim: int
    features: Mapping[str, FeatureFn]
    heads: Mapping[str, HeadFn]


def normalise(value: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Scale vectors to unit length; a zero vector stays (almost) zero."""
    square = jnp.sum(value**2, axis=-1, keepdims=True)
    return value * jax.lax.rsqrt(square + NORM_EPS**2)


def over_features(encoder: Encoder, kinds: Iterable[str] = KINDS) -> Encoder:
    """Return the encoder whose inputs of some kinds are features of its trunks.

    Its parameters are the same tree; those of the trunks are not looked at.

    Args:
      encoder: any encoder.
      kinds: of ``audio``, ``text``, ``image``.

    Raises:
      ValueError: another kind; and by ``audio_from_grid``, where features of audio
        have taken the place of grids.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")

    def audio_from_grid(params: Params, log_mag: Array) -> Array:
        raise ValueError(
            "audio_from_grid was called, expected audio: this encoder hears features"
        )

    replaced: dict[str, Any] = {kind: encoder.heads[kind] for kind in kinds}
    if "audio" in replaced:
        replaced["audio_from_grid"] = audio_from_grid
    return encoder._replace(**replaced)
