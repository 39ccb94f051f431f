"""The separator: one U-Net pass a mixture, one gated product a query.

z_k = sum_c scale_c sigma(W q_k + b)_c s_c + bias and proposal P = sigma(z): the
masks of different queries are independent and need not sum to one. The network
never sees the query, so further queries cost next to nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.config import FrontendConfig, SeparatorConfig
from marssep_jax.layers import jit_once
from marssep_jax.models.compact import CompactUNet, GatedHead
from marssep_jax.models.unet import UNet, uniform_fan_in
from marssep_jax.types import Params, SeparatorFn


class Separator(NamedTuple):
    """A separator as pure functions.

    ``init(key, frontend) -> (params, model_state)``; ``apply`` is a
    ``SeparatorFn``. ``model_state`` holds batch-norm statistics and is empty for
    the compact network.
    """

    init: Callable[[PRNGKeyArray, FrontendConfig], tuple[Params, Params]]
    apply: SeparatorFn


class QueryGate(nn.Module):
    """Project queries to channel gates: g = sigma(W q + b)."""

    num_channels: int

    @nn.compact
    def __call__(self, query: Float[Array, "b k d"]) -> Float[Array, "b k c"]:
        """Return gates, scaled channel by channel."""
        dim = query.shape[-1]

        def bias_init(key: Array, shape: tuple[int, ...], dtype: object) -> Array:
            return uniform_fan_in(key, shape, dim)

        gate = nn.Dense(
            self.num_channels,
            kernel_init=nn.initializers.normal(1e-4 if dim >= 512 else dim**-0.5),
            bias_init=bias_init,
        )(query)
        scale = self.param("scale", nn.initializers.ones, (self.num_channels,))
        return nn.sigmoid(gate) * scale[None, None]


class QueriedUNet(nn.Module):
    """U-Net and gate, for either architecture."""

    config: SeparatorConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        log_mag: Float[Array, "b h w"],
        query: Float[Array, "b k d"],
        train: bool = False,
    ) -> Float[Array, "b k h w"]:
        """Return mask logits on the padded grid."""
        config = self.config
        gate = QueryGate(config.num_channels, name="gate")(query)
        bias = self.param("bias", nn.initializers.zeros, ())
        if config.architecture == "omnisep":
            net = UNet(config.widths, config.num_channels, self.dtype, name="unet")
            return net(log_mag, gate, train) + bias
        hidden = CompactUNet(config.widths, self.dtype, name="unet")(log_mag)
        return GatedHead(config.num_channels, name="head")(hidden, gate) + bias


def make_separator(
    config: SeparatorConfig, dtype: DTypeLike = jnp.float32
) -> Separator:
    """Build the separator of a configuration.

    Columns are padded by repeating the last one up to a multiple of 2^levels and
    cropped afterwards, so any number of frames is accepted. Rows are fixed by
    the front end and must be such a multiple.

    Args:
      config: its sizes.
      dtype: of activations. Parameters, batch norm's statistics and logits are
        float32 whatever it is, so it may change from one training to the next.
    """
    module = QueriedUNet(config, dtype)
    multiple = 2 ** len(config.widths)

    def init(key: PRNGKeyArray, frontend: FrontendConfig) -> tuple[Params, Params]:
        rows = frontend.num_rows
        if rows % multiple:
            raise ValueError(
                f"num_rows is {rows}, expected a multiple of {multiple} "
                f"for {len(config.widths)} levels"
            )
        log_mag = jnp.zeros((1, rows, multiple * 2))
        query = jnp.zeros((1, 1, config.embed_dim))
        variables = jit_once(module.init)(key, log_mag, query)
        return variables["params"], variables.get("batch_stats", {})

    def apply(
        params: Params,
        model_state: Params,
        log_mag: Float[Array, "b h w"],
        query: Float[Array, "b k d"],
        *,
        train: bool = False,
    ) -> tuple[Float[Array, "b k h w"], Params]:
        width = log_mag.shape[-1]
        padding = -width % multiple
        padded = jnp.pad(log_mag, ((0, 0), (0, 0), (0, padding)), mode="edge")
        variables = {"params": params}
        if model_state:
            variables["batch_stats"] = model_state
        if train and model_state:
            logits, updated = module.apply(
                variables, padded, query, train=True, mutable=["batch_stats"]
            )
            model_state = updated["batch_stats"]
        else:
            logits = module.apply(variables, padded, query)
        return logits[..., :width], model_state

    return Separator(init, apply)


def count_parameters(params: Params) -> int:
    """Return the number of trainable scalars."""
    return int(sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)))
