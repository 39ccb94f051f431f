"""RoBERTa: CLAP's text tower."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from marssep_jax.encoders.bert import Bert
from marssep_jax.encoders.clap.config import ClapTextConfig


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
        # Counted over words from pad_id + 1 on; padding, wherever it is, has pad_id.
        place = jnp.cumsum(real, axis=1) * real + config.pad_id
        value = Bert(config, name="bert")(ids, place)
        return jnp.tanh(nn.Dense(config.width, name="pooler")(value[:, 0]))
