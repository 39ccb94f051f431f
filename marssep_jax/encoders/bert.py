"""BERT without its pooling: what RoBERTa and the sentence encoders share."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from marssep_jax.checks import require
from marssep_jax.encoders.published_config import require_positive
from marssep_jax.transformer import PostNormBlock

# Finite: a row of nothing but padding stays free of NaN.
HIDDEN = -1e9


@dataclass(frozen=True)
class BertConfig:
    """Sizes; the defaults are bert-base's.

    Attributes:
      vocab_size: rows of the word table.
      width: channels.
      num_layers: blocks.
      num_heads: heads of a block.
      mlp_width: hidden width of a block's MLP.
      num_positions: rows of the position table.
      num_segments: rows of the segment table, of which only the first is used.
      eps: of every layer normalisation.
      pad_id: id of the padding.
    """

    vocab_size: int = 30_522
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_width: int = 3_072
    num_positions: int = 512
    num_segments: int = 2
    eps: float = 1e-12
    pad_id: int = 0

    def __post_init__(self) -> None:
        """Check the heads and the padding."""
        require_positive(self, may_be_zero=("pad_id",))
        require(
            self.width % self.num_heads == 0,
            "num_heads",
            self.num_heads,
            f"a divisor of width = {self.width}",
        )
        require(
            0 <= self.pad_id < self.vocab_size,
            "pad_id",
            self.pad_id,
            f"in 0..{self.vocab_size - 1}, a row of the word table",
        )


BERT_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "width",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "mlp_width",
    "max_position_embeddings": "num_positions",
    "type_vocab_size": "num_segments",
    "layer_norm_eps": "eps",
    "pad_token_id": "pad_id",
}
"""Published name to ours."""


class Bert(nn.Module):
    """Words to one vector each."""

    config: BertConfig

    @nn.compact
    def __call__(
        self, ids: Int[Array, "b l"], place: Int[Array, "*b l"]
    ) -> Float[Array, "b l d"]:
        """Return the last block's output; nothing looks at padding.

        Args:
          ids: words. One that the table does not have becomes NaN.
          place: rows of the position table, for all sentences or for each.
        """
        config = self.config
        value = self._embed(ids, place)
        bias = jnp.where(ids == config.pad_id, HIDDEN, 0.0)[:, None, None, :]
        for layer in range(config.num_layers):
            value = PostNormBlock(
                config.num_heads, config.mlp_width, config.eps, name=f"block_{layer}"
            )(value, bias)
        return value

    def _embed(self, ids: Array, place: Array) -> Array:
        config, init = self.config, nn.initializers.normal(0.02)
        width = config.width
        words = self.param("words", init, (config.vocab_size, width))
        positions = self.param("positions", init, (config.num_positions, width))
        segments = self.param("segments", init, (config.num_segments, width))
        row = (
            jnp.asarray(words)
            .at[ids]
            .get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        )
        # Ranks are spelt out: one segment and, for BERT, one order for all.
        value = row + jnp.asarray(positions)[jnp.broadcast_to(place, ids.shape)]
        value = value + jnp.expand_dims(segments[0], (0, 1))
        return nn.LayerNorm(config.eps, name="norm")(value)


def check_ids(ids: Array, max_length: int) -> None:
    """Refuse ids that are no sentences.

    Raises:
      ValueError: not integers [..., l], or too many or none of them.
    """
    integer = jnp.issubdtype(ids.dtype, jnp.integer)
    length = ids.shape[-1] if ids.ndim else 0
    if not integer or not 1 <= length <= max_length:
        raise ValueError(
            f"ids is {ids.dtype} {ids.shape}, expected integers [..., l] with l in "
            f"1..{max_length}"
        )
