"""CLAP: sound and text in one space, judged by a contrastive model (LAION).

Pure functions over one parameter tree whose first level names its parts: ``audio``,
``audio_head``, ``text``, ``text_head``, ``log_scale_audio``, ``log_scale_text``.
The batch norms' running statistics lie beside their scales (`StoredBatchNorm`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marssep_jax.encoders.bert import check_ids
from marssep_jax.encoders.clap.config import ClapConfig
from marssep_jax.encoders.clap.htsat import NUM_CROPS, Htsat
from marssep_jax.encoders.clap.roberta import Roberta
from marssep_jax.encoders.contract import normalise
from marssep_jax.types import Params

# Logits are exp(log_scale) times cosines; 0.07 is CLIP's start.
INITIAL_LOG_SCALE = float(np.log(1 / 0.07))


class Clap(NamedTuple):
    """Pure functions of a CLAP; ``d`` is the embedding dimension.

    ``features`` are log-mel frames in dB: [..., n, m], or [..., 4, n, m] with
    ``longer`` [...] in the fused variant (see `Htsat`). ``ids`` are RoBERTa's.
    ``audio(params, features, longer=None)`` and ``text(params, ids)`` return unit
    vectors [..., d]; each is its tower, ``audio_tower`` or ``text_tower``, then its
    head, ``audio_head(params, hidden)`` or ``text_head(params, hidden)``.
    """

    init: Callable[[PRNGKeyArray], Params]
    audio: Callable[..., Float[Array, "*b d"]]
    text: Callable[[Params, Int[Array, "*b l"]], Float[Array, "*b d"]]
    audio_tower: Callable[..., Float[Array, "*b e"]]
    text_tower: Callable[[Params, Int[Array, "*b l"]], Float[Array, "*b e"]]
    audio_head: Callable[[Params, Float[Array, "*b e"]], Float[Array, "*b d"]]
    text_head: Callable[[Params, Float[Array, "*b e"]], Float[Array, "*b d"]]
    embed_dim: int


class Head(nn.Module):
    """Linear, ReLU, linear, unit length."""

    embed_dim: int

    @nn.compact
    def __call__(self, hidden: Float[Array, "*b e"]) -> Float[Array, "*b d"]:
        """Return unit vectors."""
        value = nn.relu(nn.Dense(self.embed_dim, name="linear_1")(hidden))
        return normalise(nn.Dense(self.embed_dim, name="linear_2")(value))


def make_clap(config: ClapConfig) -> Clap:
    """Build a CLAP of the given sizes."""
    htsat, roberta = Htsat(config.audio), Roberta(config.text)
    head = Head(config.embed_dim)

    def run(net: nn.Module, params: Params, *values: Array) -> Array:
        return cast(Array, net.apply({"params": params}, *values))

    def audio_tower(
        params: Params, features: Array, longer: Array | None = None
    ) -> Array:
        rank = _check_audio(config, features, longer)
        lead, views = features.shape[:-rank], features.shape[-rank:]
        views = views if config.audio.fused else (1, *views)
        flat = () if longer is None else (jnp.asarray(longer).reshape(-1),)
        hidden = run(htsat, params["audio"], features.reshape(-1, *views), *flat)
        return hidden.reshape(*lead, -1)

    def text_tower(params: Params, ids: Array) -> Array:
        check_ids(ids, config.text.max_length)
        hidden = run(roberta, params["text"], ids.reshape(-1, ids.shape[-1]))
        return hidden.reshape(*ids.shape[:-1], -1)

    def audio_head(params: Params, hidden: Array) -> Array:
        return run(head, params["audio_head"], hidden)

    def text_head(params: Params, hidden: Array) -> Array:
        return run(head, params["text_head"], hidden)

    def init(key: PRNGKeyArray) -> Params:
        keys = jax.random.split(key, 4)
        audio, text = config.audio, config.text
        views, longer = (1, None)
        if audio.fused:
            views, longer = 1 + NUM_CROPS, jnp.ones(1, bool)
        features = jnp.zeros((1, views, audio.num_frames, audio.num_mel_bins))
        ids = jnp.full((1, 1), text.pad_id)
        scale = jnp.asarray(INITIAL_LOG_SCALE, jnp.float32)
        modules: dict[str, tuple[nn.Module, tuple[Any, ...]]] = {
            "audio": (htsat, (features, longer)),
            "text": (roberta, (ids,)),
            "audio_head": (head, (jnp.zeros((1, audio.hidden_width)),)),
            "text_head": (head, (jnp.zeros((1, text.width)),)),
        }
        params = {
            name: module.init(key, *example)["params"]
            for key, (name, (module, example)) in zip(
                keys, modules.items(), strict=True
            )
        }
        return params | {"log_scale_audio": scale, "log_scale_text": scale}

    return Clap(
        init=jax.jit(init),
        audio=lambda params, features, longer=None: audio_head(
            params, audio_tower(params, features, longer)
        ),
        text=lambda params, ids: text_head(params, text_tower(params, ids)),
        audio_tower=audio_tower,
        text_tower=text_tower,
        audio_head=audio_head,
        text_head=text_head,
        embed_dim=config.embed_dim,
    )


def _check_audio(config: ClapConfig, features: Array, longer: Array | None) -> int:
    """Return how many axes a clip has.

    Raises:
      ValueError: frames, mel bins, views or ``longer`` do not fit.
    """
    audio = config.audio
    rank = 3 if audio.fused else 2
    last = [*([1 + NUM_CROPS] if audio.fused else []), audio.num_mel_bins]
    sizes = features.shape[-rank:]
    good = features.ndim >= rank and [*sizes[:-2], sizes[-1]] == last
    if not good or not 1 <= sizes[-2] <= audio.num_frames:
        views = f"{1 + NUM_CROPS}, " if audio.fused else ""
        raise ValueError(
            f"features is {features.shape}, expected [..., {views}n, "
            f"{audio.num_mel_bins}] with n in 1..{audio.num_frames} frames"
        )
    expected = f"a boolean for each clip {features.shape[:-rank]}"
    if not audio.fused and longer is not None:
        raise ValueError("longer is given, expected None: this CLAP is not fused")
    if audio.fused and (longer is None or longer.shape != features.shape[:-rank]):
        found = None if longer is None else longer.shape
        raise ValueError(f"longer is {found}, expected {expected}: this CLAP is fused")
    return rank
