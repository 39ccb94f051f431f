"""Transformer blocks that the published encoders share.

Layer normalisation, exact (erf) GELU and packed query-key-value projections, as
ImageBind, CLAP and the BERT family have them. Nothing is dropped out: a trunk is
frozen wherever it is used here. Arrays keep the precision of the parameters; what
needs float32, sums and the softmax, takes it.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

# How ImageBind and CLIP start; biases are zeros.
Linear = partial(nn.Dense, kernel_init=nn.initializers.xavier_uniform())


class Attention(nn.Module):
    """Multi-head self-attention with one packed projection, rows q, k, v.

    Attributes:
      num_heads: heads; they must divide the width.
      extra_key_value: append one learnt key and one learnt value that every query
        sees, as ImageBind's audio trunk does. They are never projected.
    """

    num_heads: int
    extra_key_value: bool = False

    @nn.compact
    def __call__(
        self, value: Float[Array, "*b l d"], bias: Float[Array, "*a q k"] | None = None
    ) -> Float[Array, "*b l d"]:
        """Attend; ``bias`` is added to the logits ``[*b, heads, l, keys]``."""
        width = value.shape[-1]
        query, key, content = jnp.split(Linear(3 * width, name="qkv")(value), 3, -1)
        if self.extra_key_value:
            key = self._append("extra_key", key)
            content = self._append("extra_value", content)
        query, key, content = map(self._heads, (query, key, content))
        logits = jnp.einsum("...hqe,...hke->...hqk", query, key)
        logits = logits * query.shape[-1] ** -0.5
        if bias is not None:
            logits = logits + jnp.expand_dims(bias, range(logits.ndim - bias.ndim))
        share = jax.nn.softmax(logits.astype(jnp.float32)).astype(value.dtype)
        mixed = jnp.einsum("...hqk,...hke->...hqe", share, content)
        mixed = jnp.moveaxis(mixed, -3, -2).reshape(value.shape)
        return Linear(width, name="out")(mixed)

    def _append(self, name: str, value: Array) -> Array:
        # Published as [1, 1, d], of which Xavier's rule makes d inputs and d outputs.
        init = nn.initializers.normal(value.shape[-1] ** -0.5)
        row = self.param(name, init, (1, value.shape[-1]))
        row = jnp.broadcast_to(row, (*value.shape[:-2], *row.shape))
        return jnp.concatenate([value, row.astype(value.dtype)], axis=-2)

    def _heads(self, value: Array) -> Array:
        # Heads first: as batches of matrix products, which XLA's CPU backend
        # computes several times faster than products over a middle axis.
        value = value.reshape(*value.shape[:-1], self.num_heads, -1)
        return jnp.moveaxis(value, -2, -3)


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    hidden: int

    @nn.compact
    def __call__(self, value: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Return a value of the same width."""
        hidden = nn.gelu(Linear(self.hidden, name="up")(value), approximate=False)
        return Linear(value.shape[-1], name="down")(hidden)


class PreNormBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): a vision transformer's block."""

    num_heads: int
    mlp_width: int
    eps: float
    extra_key_value: bool = False

    @nn.compact
    def __call__(
        self, value: Float[Array, "*b l d"], bias: Float[Array, "*a q k"] | None = None
    ) -> Float[Array, "*b l d"]:
        """Apply the block."""
        attention = Attention(self.num_heads, self.extra_key_value, name="attention")
        value = value + attention(nn.LayerNorm(self.eps, name="norm_1")(value), bias)
        mlp = Mlp(self.mlp_width, name="mlp")
        return value + mlp(nn.LayerNorm(self.eps, name="norm_2")(value))


class PostNormBlock(nn.Module):
    """norm(x + attention(x)), then norm(x + mlp(x)): BERT's block."""

    num_heads: int
    mlp_width: int
    eps: float

    @nn.compact
    def __call__(
        self, value: Float[Array, "*b l d"], bias: Float[Array, "*a q k"] | None = None
    ) -> Float[Array, "*b l d"]:
        """Apply the block."""
        attention = Attention(self.num_heads, name="attention")
        value = nn.LayerNorm(self.eps, name="norm_1")(value + attention(value, bias))
        mlp = Mlp(self.mlp_width, name="mlp")
        return nn.LayerNorm(self.eps, name="norm_2")(value + mlp(value))
