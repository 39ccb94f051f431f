"""Published weights inside an encoder: trunks that stay as they were downloaded.

An `EncoderConfig` names the folder of a converted encoder. Its trunks are frozen:
alignment trains heads and temperature, and a trained model keeps those alone, with
the folder's name and a digest of what it held.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from marssep_jax.config import EncoderConfig
from marssep_jax.encoders.contract import KINDS, Encoder
from marssep_jax.layers import jit_once
from marssep_jax.types import Params
from marssep_jax.weights.store import RECORD, load_encoder, read_record


class Backbone(NamedTuple):
    """A converted encoder inside another one.

    Attributes:
      field: of `EncoderConfig`, where its folder stands.
      folder: the folder.
      architecture: what has to be in it.
      trunks: the parts of the encoder that are taken from it and stay frozen.
      select: from its parameters to parts of the encoder, the trunks and what the
        heads start from.
    """

    field: str
    folder: str
    architecture: str
    trunks: tuple[str, ...]
    select: Callable[[Params], Params]


def backbones_of(config: EncoderConfig) -> tuple[Backbone, ...]:
    """Return the published parts of an encoder; mostly the small one has none."""
    if config.architecture == "imagebind":
        return (
            Backbone(
                "backbone", config.backbone, "imagebind", KINDS, lambda tree: tree
            ),
        )
    if config.text_tower == "minilm":
        return (
            Backbone(
                "text_backbone",
                config.text_backbone,
                "minilm",
                ("text",),
                lambda tree: {"text": tree},
            ),
        )
    return ()


def frozen_parts(config: EncoderConfig) -> tuple[str, ...]:
    """Return the parts of the parameters that no training changes."""
    return tuple(part for row in backbones_of(config) for part in row.trunks)


def read_sizes(backbone: Backbone) -> dict[str, Any]:
    """Return the sizes of a backbone, without its parameters.

    Raises:
      ValueError: another folder, or another architecture.
    """
    return _record(backbone)["config"]


def digest_of(backbone: Backbone) -> str:
    """Return a short hash of a backbone's weights: of the checksums of its arrays.

    Its tokenizer counts where there is one: other ids would be other words.

    Raises:
      ValueError: another folder, or another architecture.
    """
    record = _record(backbone)
    described = json.dumps(record["layout"], sort_keys=True)
    if files := record.get("files"):
        described += json.dumps(files, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def licence_of(backbone: Backbone) -> str:
    """Return the licence of a backbone's weights.

    Raises:
      ValueError: another folder, or another architecture.
    """
    return _record(backbone)["licence"]


def load_parts(backbone: Backbone) -> Params:
    """Return what an encoder takes from a backbone, mapped from its file.

    Raises:
      ValueError: another folder, another architecture, or a damaged one.
    """
    _record(backbone)
    try:
        _, params = load_encoder(backbone.folder)
    except ValueError as error:
        raise ValueError(f"config.encoder.{backbone.field}: {error}") from error
    return backbone.select(params)


def initial_params(
    key: PRNGKeyArray, encoder: Encoder, config: EncoderConfig
) -> Params:
    """Return what an encoder's training starts from.

    Published parts start as they were published, heads among them where a backbone
    has some; the others are random.

    Raises:
      ValueError: a backbone that cannot be read.
    """
    published: dict[str, Any] = {}
    for backbone in backbones_of(config):
        published |= load_parts(backbone)
    if not published:
        return encoder.init(key)
    shapes = jax.eval_shape(encoder.init, key)
    if set(shapes) <= set(published):  # a billion numbers need not be drawn
        return published

    def others(key: PRNGKeyArray) -> Params:
        drawn = encoder.init(key)
        return {name: part for name, part in drawn.items() if name not in published}

    # Compiled as one, what nobody reads is not drawn either.
    return {**jit_once(others)(key), **published}


def without_frozen(config: EncoderConfig, params: Params) -> Params:
    """Return the parts that training may change: what a trained model keeps."""
    frozen = frozen_parts(config)
    return {name: part for name, part in params.items() if name not in frozen}


def with_frozen(
    config: EncoderConfig, params: Params, digests: Mapping[str, str]
) -> Params:
    """Put the frozen trunks back.

    Args:
      config: the encoder's.
      params: of `without_frozen`.
      digests: of `digest_of`, by field of the config, when it was trained.

    Raises:
      ValueError: a backbone is not there, or has other weights.
    """
    found = dict(params)
    for backbone in backbones_of(config):
        parts, expected = load_parts(backbone), digests.get(backbone.field)
        if expected != digest_of(backbone):
            raise ValueError(
                f"config.encoder.{backbone.field} is {backbone.folder!r}, expected the "
                "weights that the model was trained with"
            )
        found |= {name: parts[name] for name in backbone.trunks}
    return found


def digests_of(config: EncoderConfig) -> dict[str, str]:
    """Return the digest of each backbone by field of the config."""
    return {row.field: digest_of(row) for row in backbones_of(config)}


def _record(backbone: Backbone) -> dict[str, Any]:
    try:
        stamp = os.stat(Path(backbone.folder) / RECORD).st_mtime_ns
        record = _read(backbone.folder, stamp)
        if record["architecture"] != backbone.architecture:
            raise ValueError(f"it holds {record['architecture']}")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"config.encoder.{backbone.field} is {backbone.folder!r}, expected the "
            f"folder of a converted {backbone.architecture} ({reason})"
        ) from error
    return record


@functools.lru_cache(maxsize=4)
def _read(folder: str, stamp: int) -> dict[str, Any]:
    del stamp  # a folder that was written anew is read anew
    return read_record(Path(folder))
