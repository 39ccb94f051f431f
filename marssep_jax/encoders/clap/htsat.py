"""HTSAT: CLAP's audio tower.

Log-mel frames, batch norm by mel bin, a picture, patches, Swin stages, and the
mean over the tokens that are left. The fused variant adds three crops of a long
clip to its patches.

Batch norm never sees a batch here: its statistics came with the weights.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from marssep_jax.encoders.clap.config import ClapAudioConfig
from marssep_jax.encoders.clap.picture import fold_time, resize_time
from marssep_jax.encoders.clap.swin import EPS, PatchMerging, SwinBlock

NUM_CROPS = 3


class StoredBatchNorm(nn.Module):
    """Batch norm over the last axis by stored statistics.

    They are parameters, ``mean`` and ``var``, so that a checkpoint is one tree, and
    no gradient reaches them: nothing that follows gradients can train them.
    """

    @nn.compact
    def __call__(self, value: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        """Return scale (value - mean) / sqrt(var + eps) + bias."""
        shape = value.shape[-1:]
        mean = self.param("mean", nn.initializers.zeros, shape)
        var = self.param("var", nn.initializers.ones, shape)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean, var = jax.lax.stop_gradient((mean, var))
        gain = scale * jax.lax.rsqrt(var + EPS)
        lead = range(value.ndim - 1)
        return (value - jnp.expand_dims(mean, lead)) * jnp.expand_dims(
            gain, lead
        ) + jnp.expand_dims(bias, lead)


class Bottleneck(nn.Module):
    """Down, norm, ReLU, up, norm: on every token, as 1 x 1 convolutions."""

    hidden: int

    @nn.compact
    def __call__(self, value: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Return a value of the same width."""
        hidden = nn.Conv(self.hidden, (1, 1), name="down")(value)
        hidden = nn.relu(StoredBatchNorm(name="down_norm")(hidden))
        hidden = nn.Conv(value.shape[-1], (1, 1), name="up")(hidden)
        return StoredBatchNorm(name="up_norm")(hidden)


class Fusion(nn.Module):
    """Mix two grids by gates that look at each token and at their mean."""

    reduction: int

    @nn.compact
    def __call__(
        self, whole: Float[Array, "b h w c"], crops: Float[Array, "b h w c"]
    ) -> Float[Array, "b h w c"]:
        """Return 2 s whole + 2 (1 - s) crops with s = sigmoid(local + global)."""
        both = whole + crops
        hidden = both.shape[-1] // self.reduction
        local = Bottleneck(hidden, name="local")(both)
        mean = jnp.mean(both, axis=(1, 2), keepdims=True)
        gate = nn.sigmoid(local + Bottleneck(hidden, name="global")(mean))
        return 2.0 * whole * gate + 2.0 * crops * (1.0 - gate)


class PatchEmbedding(nn.Module):
    """Pictures to tokens."""

    config: ClapAudioConfig

    @nn.compact
    def __call__(
        self, pictures: Float[Array, "b v s s"], longer: Bool[Array, " b"] | None
    ) -> Float[Array, "b h w c"]:
        """Return the tokens of view 0, with the crops' mixed in where ``longer``."""
        config, size = self.config, self.config.patch_size
        patches = nn.Conv(config.width, (size, size), size, "VALID", name="proj")
        tokens = patches(pictures[:, 0, :, :, None])
        if longer is not None:
            mixed = Fusion(config.fusion_reduction, name="fusion")(
                tokens, self._crops(pictures[:, 1:], tokens.shape[2])
            )
            tokens = jnp.where(longer[:, None, None, None], mixed, tokens)
        return nn.LayerNorm(EPS, name="norm")(tokens)

    def _crops(self, crops: Array, columns: int) -> Array:
        """Return the crops' tokens one after another, each a third as wide."""
        window = (self.config.patch_size, NUM_CROPS * self.config.patch_size)
        conv = nn.Conv(self.config.width, window, window, "VALID", name="crop_proj")
        b, v, s, _ = crops.shape
        tokens = conv(crops.reshape(b * v, s, s, 1))
        tokens = tokens.reshape(b, v, *tokens.shape[1:]).transpose(0, 2, 1, 3, 4)
        tokens = tokens.reshape(b, tokens.shape[1], -1, tokens.shape[-1])
        missing = columns - tokens.shape[2]
        return jnp.pad(tokens, ((0, 0), (0, 0), (0, missing), (0, 0)))


class Htsat(nn.Module):
    """The audio tower."""

    config: ClapAudioConfig

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "b v n m"],
        longer: Bool[Array, " b"] | None = None,
    ) -> Float[Array, "b e"]:
        """Return one vector a clip, before the projection.

        Args:
          features: log-mel frames in dB; 1 view, or 4 in the fused variant: the
            whole clip squeezed to one window, then crops of front, middle and back.
          longer: fused variant only: clips longer than a window. The crops of
            others are not looked at.
        """
        config = self.config
        value = StoredBatchNorm(name="batch_norm")(features)
        value = fold_time(resize_time(value, config.num_frames), config.picture_size)
        grid = PatchEmbedding(config, name="patches")(value, longer)
        for stage, depth in enumerate(config.depths):
            if stage:
                grid = PatchMerging(name=f"merging_{stage - 1}")(grid)
            for block in range(depth):
                # One window covers all: nothing to shift.
                alone = grid.shape[1] == config.window_size
                shift = 0 if alone else block % 2 * (config.window_size // 2)
                grid = SwinBlock(
                    config.num_heads[stage],
                    config.window_size,
                    shift,
                    config.mlp_ratio,
                    name=f"stage_{stage}_block_{block}",
                )(grid)
        return jnp.mean(nn.LayerNorm(EPS, name="norm")(grid), axis=(1, 2))
