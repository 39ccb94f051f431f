"""What a model's own encoder hears: queries, and the sounds that were found."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from marssep_jax.bundle import ModelBundle
from marssep_jax.config import EncoderConfig, from_dict
from marssep_jax.queries import (
    Embedder,
    Query,
    QueryItem,
    embed_item,
    embed_query,
    make_embedder,
)
from marssep_jax.streaming import Separation, frontend_config


def compose_query(
    bundle: ModelBundle, items: Sequence[QueryItem], remove: Sequence[QueryItem] = ()
) -> Query:
    """Compose a query of weighted items.

    Args:
      bundle: the model.
      items: what is wanted.
      remove: what is not; alone, it asks for all the rest.

    Raises:
      ValueError: nothing given, something unreadable, or a model without an encoder,
        such as a converted one: its queries are vectors.
      OSError: a missing file or a folder.
    """
    if bundle.config["encoder"] is None:
        raise ValueError(
            "checkpoint has no encoder, expected one that understands words, clips "
            "or pictures: a converted separator takes vectors of its own encoder"
        )
    params = bundle.encoder_params["encoder"]
    return embed_query(_embedder(bundle), params, items, remove)


def score(
    bundle: ModelBundle, mixture: Any, found: Separation, rate_hz: int, query: Query
) -> dict[str, float]:
    """Say what the model's own encoder makes of a separation.

    Args:
      bundle: the model; it has an encoder.
      mixture: what was separated.
      found: the separation.
      rate_hz: their rate.
      query: what was asked for.

    Returns:
      ``similarity`` and ``mixture_similarity``: cosine with the query's embedding,
      of what was kept of it (the residual, for a query of removals alone) and of the
      mixture; 0 for silence. The reward is made of such cosines, so they are no
      independent judgement. ``energy_share``: of estimate against mixture.
    """
    described = found.residual if query.complement else found.estimate
    power = [float(np.mean(np.square(rows))) for rows in (found.estimate, mixture)]
    return {
        "similarity": _similarity(bundle, described, rate_hz, query),
        "mixture_similarity": _similarity(bundle, mixture, rate_hz, query),
        "energy_share": power[0] / power[1] if power[1] else 0.0,
    }


def _similarity(
    bundle: ModelBundle, waveform: Any, rate_hz: int, query: Query
) -> float:
    if not np.any(np.atleast_2d(waveform).mean(axis=0)):
        return 0.0
    item = QueryItem("audio", (np.asarray(waveform), rate_hz))
    heard = embed_item(_embedder(bundle), bundle.encoder_params["encoder"], item)
    return float(heard @ query.embedding)


def _embedder(bundle: ModelBundle) -> Embedder:
    config = from_dict(EncoderConfig, bundle.config["encoder"])
    return make_embedder(config, frontend_config(bundle))
