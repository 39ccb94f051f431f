"""RoBERTa: CLAP's text tower."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from marssep_jax.encoders.clap.config import ClapTextConfig
from marssep_jax.transformer import PostNormBlock

# Finite: a row of nothing but padding stays free of NaN.
HIDDEN = -1e9


class Roberta(nn.Module):
    """Words to one vector."""

    config: ClapTextConfig

    @nn.compact
    def __call__(self, ids: Int[Array, "b l"]) -> Float[Array, "b e"]:
        """Return tanh of a linear map of the first token, before the projection.

        An id that the table does not have makes its row NaN.
        """
        config = self.config
        real = ids != config.pad_id
        value = self._embed(ids, real)
        bias = jnp.where(real, 0.0, HIDDEN)[:, None, None, :]
        for layer in range(config.num_layers):
            value = PostNormBlock(
                config.num_heads, config.mlp_width, config.eps, name=f"block_{layer}"
            )(value, bias)
        return jnp.tanh(nn.Dense(config.width, name="pooler")(value[:, 0]))

    def _embed(self, ids: Array, real: Array) -> Array:
        config, init = self.config, nn.initializers.normal(0.02)
        width = config.width
        words = self.param("words", init, (config.vocab_size, width))
        positions = self.param("positions", init, (config.num_positions, width))
        # A table of one row: RoBERTa has no second sentence.
        segment = self.param("segments", init, (1, width))
        # Counted over words from pad_id + 1 on; padding, wherever it is, has pad_id.
        place = jnp.cumsum(real, axis=1) * real + config.pad_id
        row = (
            jnp.asarray(words)
            .at[ids]
            .get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        )
        value = row + jnp.asarray(positions)[place] + segment[None]
        return nn.LayerNorm(config.eps, name="norm")(value)
