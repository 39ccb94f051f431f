"""MiniLM: a published encoder of sentences, small enough for a processor.

BERT, the mean over its words, unit length (all-MiniLM-L6-v2, sentence-transformers).
It was trained on at most 256 tokens. Its vocabulary comes with the weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marssep_jax.checks import require
from marssep_jax.encoders.bert import BERT_FIELDS, Bert, BertConfig, check_ids
from marssep_jax.encoders.contract import normalise
from marssep_jax.encoders.published_config import read_fields, require_fixed
from marssep_jax.types import Params


@dataclass(frozen=True)
class MiniLmConfig(BertConfig):
    """Sizes; the defaults are all-MiniLM-L6-v2's."""

    width: int = 384
    num_layers: int = 6
    mlp_width: int = 1_536

    @classmethod
    def from_published(cls, config_json: Mapping[str, Any]) -> "MiniLmConfig":
        """Read the fields of a published ``config.json`` (``model_type`` bert).

        What the file leaves out has its published value.

        Raises:
          ValueError: another model, or a variant that is not implemented here.
        """
        kind = config_json.get("model_type", "bert")
        require(kind == "bert", "model_type", kind, "'bert'")
        fixed = {"hidden_act": "gelu", "position_embedding_type": "absolute"}
        require_fixed(config_json, fixed)
        return read_fields(cls, config_json, BERT_FIELDS)


class MiniLm(NamedTuple):
    """``text(params, ids [..., l]) -> [..., d]``: unit vectors; 0 pads the ids."""

    init: Callable[[PRNGKeyArray], Params]
    text: Callable[[Params, Int[Array, "*b l"]], Float[Array, "*b d"]]
    embed_dim: int


def make_minilm(config: MiniLmConfig) -> MiniLm:
    """Build the encoder; its parameters are those of `Bert`."""
    net = Bert(config)

    def text(params: Params, ids: Array) -> Array:
        check_ids(ids, config.num_positions)
        flat = ids.reshape(-1, ids.shape[-1])
        words = net.apply({"params": params}, flat, jnp.arange(flat.shape[-1]))
        real = (flat != config.pad_id).astype(jnp.float32)[..., None]
        # Without a word the sum is zero, and so is its share of nothing.
        count = jnp.maximum(jnp.sum(real, axis=1), 1.0)
        mean = jnp.sum(cast(Array, words) * real, axis=1) / count
        return normalise(mean).reshape(*ids.shape[:-1], -1)

    def init(key: PRNGKeyArray) -> Params:
        ids = jnp.zeros((1, 1), jnp.int32)
        return net.init(key, ids, jnp.arange(1))["params"]

    return MiniLm(jax.jit(init), text, config.width)
