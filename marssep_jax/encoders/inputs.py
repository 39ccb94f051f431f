"""What an encoder's trunks take, made from words and pictures on the host."""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from marssep_jax.config import EncoderConfig
from marssep_jax.encoders.backbones import backbones_of, read_sizes
from marssep_jax.encoders.image import fit_image
from marssep_jax.encoders.text import tokenise
from marssep_jax.preprocessing.clip_pictures import SIZE, crop_picture
from marssep_jax.preprocessing.clip_tokens import VOCABULARY_NAME, make_clip_tokenizer
from marssep_jax.preprocessing.wordpiece_tokens import make_wordpiece_tokenizer


class EncoderInputs(NamedTuple):
    """Host functions of an encoder.

    ``text(captions)`` returns ids [m, l]; ``image(pixels uint8 [h, w, 3], name)``
    a square [s, s, 3]. Both raise a ValueError for what they cannot take.
    """

    text: Callable[[Sequence[str]], Int[np.ndarray, "m l"]]
    image: Callable[..., UInt8[np.ndarray, "s s 3"]]


def make_inputs(config: EncoderConfig) -> EncoderInputs:
    """Build the functions of an encoder's settings; its files are read on first use."""
    size = config.image_size

    def picture(pixels: np.ndarray, name: str = "pixels") -> np.ndarray:
        if config.architecture == "imagebind" and size == SIZE:
            return crop_picture(pixels, name)
        return fit_image(pixels, size, name)

    return EncoderInputs(_tokeniser(config), picture)


def _tokeniser(config: EncoderConfig) -> Callable[[Sequence[str]], np.ndarray]:
    if config.text_tower == "minilm":
        return partial(_sentence_ids, config)
    if config.architecture == "small":
        return partial(tokenise, length=config.text_length)

    def clip_ids(captions: Sequence[str]) -> np.ndarray:
        return _clip_tokenizer(config.backbone, config.text_length)(captions)

    return clip_ids


def _sentence_ids(config: EncoderConfig, captions: Sequence[str]) -> np.ndarray:
    """Return WordPiece ids by the tokenizer that lies beside the weights."""
    (backbone,) = backbones_of(config)
    folder, words = backbone.folder, read_sizes(backbone)["vocab_size"]
    try:
        tokenise = make_wordpiece_tokenizer(folder, config.text_length, words)
    except FileNotFoundError as error:
        raise ValueError(
            f"config.encoder.text_backbone is {folder!r}, expected the folder of a "
            f"converted minilm with its tokenizer.json or vocab.txt"
        ) from error
    return tokenise(captions)


@functools.lru_cache(maxsize=4)
def _clip_tokenizer(folder: str, length: int) -> Callable[..., np.ndarray]:
    """Read the vocabulary that lies beside the weights, or an installed one."""
    beside = Path(folder) / VOCABULARY_NAME
    return make_clip_tokenizer(beside if beside.is_file() else None, length)
