"""Queries: what to separate, and what to remove (method section 5).

Words, recordings and pictures become unit vectors of one space; any number of
them is composed into one query, and what is to be removed is subtracted.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.audio import RATE_RANGE_HZ, read_audio, resample
from marssep_jax.config import EncoderConfig, FrontendConfig
from marssep_jax.encoders import Encoder, make_encoder
from marssep_jax.encoders.contract import normalise
from marssep_jax.encoders.inputs import EncoderInputs, make_inputs
from marssep_jax.preprocessing.pictures import read_picture
from marssep_jax.types import Params

# omnisep: its inference hard-codes 1.5 q - 0.5 n.
NEGATIVE_AMOUNT = 0.5
MODALITIES = ("text", "audio", "image")
# ours: windows of a query recording that are 40 dB below its loudest are pauses.
PAUSE_LEVEL = 0.01


def compose(
    embeddings: Float[Array, "m *b d"], weights: Float[Array, " n"]
) -> Float[Array, "*b d"]:
    """Return the weighted mean of unit embeddings, renormalised ("omni" query).

    q = normalise(sum_m w_m z_m). Each embedding is normalised first: a longer
    vector must not outweigh the others. An all-zero embedding (a modality that is
    missing) drops out.

    Args:
      embeddings: ``[m, ..., d]``.
      weights: ``[n]``, n = m; only their ratios matter.

    Returns:
      Unit vectors ``[..., d]``; (almost) zero where everything cancels.

    Raises:
      ValueError: not one weight for each embedding.
    """
    if embeddings.ndim < 2 or weights.shape != embeddings.shape[:1]:
        raise ValueError(
            f"weights has shape {weights.shape}, expected one weight for each of "
            f"embeddings {embeddings.shape}"
        )
    return normalise(jnp.einsum("m,m...d->...d", weights, normalise(embeddings)))


def subtract(
    query: Float[Array, "*b d"],
    negative: Float[Array, "*b d"],
    amount: float = NEGATIVE_AMOUNT,
) -> Float[Array, "*b d"]:
    """Move a query away from what is to be removed.

    q' = normalise((1 + a) q - a n). OmniSep leaves out the normalisation; here
    the separator has only ever met unit vectors (ours).

    Args:
      query: unit vectors ``[..., d]``.
      negative: unit vectors ``[..., d]``.
      amount: a >= 0; 0 returns the query.
    """
    return normalise((1.0 + amount) * query - amount * negative)


class QueryItem(NamedTuple):
    """One thing a query is made of.

    ``value`` is the words of a text; a file name or ``(waveform, rate)`` of a
    recording; a file name or uint8 ``[h, w, 3]`` of a picture. ``label`` is what
    error messages call it.
    """

    modality: str
    value: Any
    weight: float = 1.0
    label: str = ""


class Query(NamedTuple):
    """A composed query.

    ``complement`` asks for all but what the embedding describes: the mask is
    1 - P. That is what a query of removals alone means.
    """

    embedding: Float[Array, " d"]
    complement: bool = False


def as_items(
    value: Any, modality: str, weight: float = 1.0, label: str = ""
) -> list[QueryItem]:
    """Return one value, a sequence of values or nothing as query items."""
    if value is None:
        return []
    single = isinstance(value, (str, os.PathLike, np.ndarray, jax.Array))
    pair = (
        modality == "audio"
        and isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[1], (int, float, np.number))
    )
    values = [value] if single or pair else list(value)
    return [QueryItem(modality, one, weight, label or modality) for one in values]


def removal_items(remove: Any) -> list[QueryItem]:
    """Return what is to be removed as items: words, or a mapping by modality.

    Raises:
      ValueError: a key that is no modality.
    """
    if not isinstance(remove, Mapping):
        return as_items(remove, "text", label="remove")
    items: list[QueryItem] = []
    for modality, value in remove.items():
        _require_modality(modality)
        items += as_items(value, modality, label=f"remove[{modality!r}]")
    return items


def _require_modality(modality: str) -> None:
    if modality not in MODALITIES:
        raise ValueError(
            f"modality is {modality!r}, expected one of {', '.join(MODALITIES)}"
        )


class Embedder(NamedTuple):
    """An encoder, compiled, with the settings that query items need."""

    encoder: Encoder
    inputs: EncoderInputs
    frontend_config: FrontendConfig


@functools.lru_cache(maxsize=8)
def make_embedder(
    encoder_config: EncoderConfig, frontend_config: FrontendConfig
) -> Embedder:
    """Build an embedder; each modality compiles once, at one shape."""
    encoder = make_encoder(encoder_config, frontend_config)
    compiled = encoder._replace(
        audio=jax.jit(encoder.audio),
        text=jax.jit(encoder.text),
        image=jax.jit(encoder.image),
    )
    return Embedder(compiled, make_inputs(encoder_config), frontend_config)


def embed_query(
    embedder: Embedder,
    params: Params,
    items: Sequence[QueryItem],
    remove: Sequence[QueryItem] = (),
    amount: float = NEGATIVE_AMOUNT,
) -> Query:
    """Compose items into a query and subtract what is to be removed.

    Args:
      embedder: of `make_embedder`.
      params: the encoder's parameters.
      items: what is wanted, weighted.
      remove: what is not wanted; alone, it asks for all the rest.
      amount: strength of the subtraction.

    Raises:
      ValueError: no items at all, or one that cannot be read.
    """
    if not items and not remove:
        raise ValueError("query is empty, expected a text, an audio or an image")
    wanted = _compose_items(embedder, params, items) if items else None
    negative = _compose_items(embedder, params, remove) if remove else None
    if wanted is None:
        assert negative is not None
        return Query(negative, complement=True)
    return Query(wanted if negative is None else subtract(wanted, negative, amount))


def _compose_items(
    embedder: Embedder, params: Params, items: Sequence[QueryItem]
) -> Array:
    for item in items:
        if not (np.isfinite(item.weight) and item.weight > 0):
            raise ValueError(f"weight is {item.weight}, expected a number above 0")
    rows = jnp.stack([embed_item(embedder, params, item) for item in items])
    return compose(rows, jnp.asarray([item.weight for item in items], rows.dtype))


def embed_item(embedder: Embedder, params: Params, item: QueryItem) -> Array:
    """Return the unit embedding ``[d]`` of one query item.

    Raises:
      ValueError: unknown modality, no words, silence, or an unreadable file.
      OSError: a missing file or a folder.
    """
    _require_modality(item.modality)
    label = item.label or item.modality
    encoder, inputs, frontend = embedder
    if item.modality == "text":
        if not _is_words(item.value):
            raise ValueError(f"{label} is {item.value!r}, expected some words")
        ids = jnp.asarray(inputs.text([item.value]))
        row = encoder.text(params, ids)[0]
        if not jnp.any(row):  # shorter than the n-grams the encoder reads
            raise ValueError(f"{label} is {item.value!r}, expected a longer word")
        return row
    if item.modality == "image":
        pixels = item.value
        if isinstance(pixels, (str, os.PathLike)):
            pixels = read_picture(pixels, label)
        pixels = inputs.image(np.asarray(pixels), label)
        return encoder.image(params, jnp.asarray(pixels)[None])[0]
    windows = _audio_windows(item.value, frontend, label)
    rows = jnp.concatenate([encoder.audio(params, row[None]) for row in windows])
    return compose(rows, jnp.ones(rows.shape[0]))


def _is_words(value: Any) -> bool:
    # An argument that is no valid UTF-8 reaches us with lone surrogates.
    return (
        isinstance(value, str)
        and bool(value.strip())
        and not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def _audio_windows(
    value: Any, config: FrontendConfig, label: str
) -> Float[np.ndarray, "m t"]:
    """Return the sounding windows of a recording at the encoder's rate."""
    if isinstance(value, (str, os.PathLike)):
        waveform, rate_hz = read_audio(value, label)
    else:
        waveform, rate_hz = np.atleast_2d(np.asarray(value[0], np.float32)), value[1]
        _require_clip(waveform, rate_hz, label)
    mono = resample(waveform.mean(axis=0), int(rate_hz), config.sample_rate_hz)
    if not np.any(mono):
        raise ValueError(f"{label} is silent, expected a recording with sound in it")
    size = config.num_samples
    if mono.size <= size:
        return np.resize(mono, size)[None]  # repeated, as the front end's clips are
    starts = [*range(0, mono.size - size, size), mono.size - size]
    windows = np.stack([mono[start : start + size] for start in starts])
    level = np.sqrt(np.mean(windows**2, axis=1))
    return windows[level > PAUSE_LEVEL * level.max()]


def _require_clip(waveform: np.ndarray, rate_hz: Any, label: str) -> None:
    low, high = RATE_RANGE_HZ
    if waveform.ndim != 2 or not waveform.size or not np.isfinite(waveform).all():
        raise ValueError(
            f"{label} has shape {waveform.shape}, expected finite samples "
            "[t] or [channels, t]"
        )
    if not low <= rate_hz <= high:
        raise ValueError(f"{label} has rate {rate_hz}, expected {low} to {high} Hz")
