"""The trained models that a stage starts from.

Two encoders may be at work: one embeds queries, the other listens for the reward.
A separator only understands the queries that it was trained with. Given those of an
encoder that was aligned further, its masks collapse towards the identity (the
paper's finding), so that swap has to be asked for by name.
"""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import build
from experiments.settings import Settings
from marssep_jax.bundle import ModelBundle, load_bundle, resolve_bundle
from marssep_jax.config import EncoderConfig, FrontendConfig, from_dict
from marssep_jax.encoders.backbones import backbones_of, load_parts, without_frozen
from marssep_jax.types import Params
from marssep_jax.weights.store import is_encoder, read_record

PUBLISHED_SIZES = ("embed_dim", "image_size", "text_length")


class TrainedEncoder(NamedTuple):
    """An encoder's settings, and its parameters with those of the pooling."""

    config: EncoderConfig
    params: Params


class Start(NamedTuple):
    """What a stage starts from; ``separator`` is None for random weights.

    ``query`` embeds queries, ``reward`` listens to estimates; mostly they are one.
    Parameters of further encoders that listen are under ``others`` of the reward's.
    """

    query: TrainedEncoder
    reward: TrainedEncoder
    judge_params: Params | None
    judge_config: dict[str, Any] | None
    separator: tuple[Params, Params] | None


def load_start(settings: Settings, parts: build.Parts) -> Start:
    """Load the models that a config starts from.

    Raises:
      ValueError: no model there, one of other settings, or another encoder for the
        queries of a trained separator.
    """
    base = _load(settings.start.separator, "separator")
    source = _load(settings.start.encoder, "encoder") or base
    if base is not None:
        build.require_same(settings, base, "separator", ("frontend", "separator"))
    if source is None:
        if jax.process_index() == 0:
            print(
                "start.encoder is empty: the encoder is random and stays so", flush=True
            )
        key = jax.random.fold_in(jax.random.key(settings.seed), 1)
        found = TrainedEncoder(
            settings.encoder, build.init_encoder(key, parts, settings.encoder)
        )
        return Start(found, found, None, None, None)
    build.require_same(settings, source, "encoder", ("frontend", "encoder"))
    judge = source if source.judge_params is not None else base
    return Start(
        _query_encoder(settings, base, source),
        _with_others(settings, _encoder(source)),
        None if judge is None else judge.judge_params,
        None if judge is None else judge.config["judge"],
        None if base is None else (base.separator_params, base.model_state),
    )


def _query_encoder(
    settings: Settings, base: ModelBundle | None, source: ModelBundle
) -> TrainedEncoder:
    """Return the separator's own encoder, or the one that is asked for."""
    start = settings.start
    own = _encoder(base or source)
    other = _load(start.query_encoder, "query_encoder")
    if other is None:
        return own
    wanted = _encoder(other)
    if wanted.config.embed_dim != settings.separator.embed_dim:
        raise ValueError(
            f"config.start.query_encoder is {start.query_encoder!r}, expected an "
            f"encoder of {settings.separator.embed_dim} dimensions as config.separator "
            "has"
        )
    fits = base is None or same_encoder(wanted, own)
    if not (fits or start.swap_query_encoder):
        raise ValueError(
            f"config.start.query_encoder is {start.query_encoder!r}, expected the "
            "encoder that config.start.separator was trained with "
            "(config.start.swap_query_encoder=True takes this one all the same)"
        )
    return wanted


def _encoder(bundle: ModelBundle) -> TrainedEncoder:
    config = from_dict(EncoderConfig, bundle.config["encoder"])
    return TrainedEncoder(config, bundle.encoder_params)


def _with_others(settings: Settings, encoder: TrainedEncoder) -> TrainedEncoder:
    """Add the parameters of the other encoders that listen for the reward."""
    paths = [path for path in settings.start.other_encoders.split(",") if path]
    others = [_load(path, "other_encoders") for path in paths]
    for bundle in filter(None, others):
        parts = ("frontend", "encoder")
        build.require_same(settings, bundle, "other_encoders", parts)
    if not others:
        return encoder
    found = tuple(_encoder(bundle).params for bundle in others if bundle)
    return encoder._replace(params={**encoder.params, "others": found})


def load_named_encoder(
    path: str,
) -> tuple[EncoderConfig, FrontendConfig | None, Params]:
    """Load the encoder of a folder: of a trained model, or a converted one.

    Returns:
      Its settings, the front end it was trained with (None for a published encoder,
      which brings its own), and its parameters without those of a pooling.

    Raises:
      ValueError: no model there, or one without an encoder.
    """
    if is_encoder(path):
        config = _published(path)
        (backbone,) = backbones_of(config)
        return config, None, load_parts(backbone)
    try:
        bundle = load_bundle(resolve_bundle(path))
    except ValueError as error:
        raise ValueError(str(error).replace("checkpoint is", "encoder is", 1)) from (
            error
        )
    if not bundle.config.get("encoder") or not bundle.encoder_params:
        raise ValueError(f"encoder is {path!r}, expected a model with an encoder in it")
    config, params = _encoder(bundle)
    frontend = from_dict(FrontendConfig, bundle.config["frontend"])
    return config, frontend, params["encoder"]


def _published(path: str) -> EncoderConfig:
    """Return the settings by which a converted encoder is asked for."""
    try:
        record = read_record(pathlib.Path(path))
        sizes = {name: record["config"][name] for name in PUBLISHED_SIZES}
        return EncoderConfig(record["architecture"], path, **sizes)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"encoder is {path!r}, expected a trained model or converted weights that "
            "embed sound, words and pictures, such as imagebind"
        ) from error


def same_encoder(first: TrainedEncoder, second: TrainedEncoder) -> bool:
    """Say whether two encoders embed alike; poolings are not compared."""
    if first.config != second.config:
        return False
    a, b = (
        dict(
            jax.tree_util.tree_leaves_with_path(
                without_frozen(encoder.config, encoder.params["encoder"])
            )
        )
        for encoder in (first, second)
    )
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def _load(path: str, name: str) -> ModelBundle | None:
    try:
        return load_bundle(resolve_bundle(path)) if path else None
    except ValueError as error:
        raise ValueError(f"config.start.{name}: {error}") from error
