"""Trunks and heads of ImageBind as linen modules.

A trunk returns the one token that its head reads: selecting it before the head's
layer norm is the same and spares the others.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from marssep_jax.encoders.imagebind.config import ImageBindConfig
from marssep_jax.transformer import PreNormBlock

EPS = 1e-6
# The layer norm of the audio patches alone keeps PyTorch's default.
PATCH_EPS = 1e-5
MLP_RATIO = 4
# Of a still, which stands for two equal ones.
FRAMES = 2
# Convolutions and heads start as PyTorch makes them, U(-1, 1) / sqrt(fan-in).
FAN_IN_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Blocks(nn.Module):
    """Pre-norm transformer blocks."""

    width: int
    num_blocks: int
    num_heads: int
    extra_key_value: bool = False

    @nn.compact
    def __call__(
        self, value: Float[Array, "b l d"], bias: Float[Array, "l l"] | None = None
    ) -> Float[Array, "b l d"]:
        """Run them all."""
        for index in range(self.num_blocks):
            value = PreNormBlock(
                self.num_heads,
                MLP_RATIO * self.width,
                EPS,
                self.extra_key_value,
                name=f"block_{index}",
            )(value, bias)
        return value


def _position_init(width: int) -> nn.initializers.Initializer:
    return nn.initializers.normal(width**-0.5)


class PatchTokens(nn.Module):
    """Prepend the class token and add positions."""

    @nn.compact
    def __call__(self, patches: Float[Array, "b l d"]) -> Float[Array, "b m d"]:
        """Return l + 1 tokens, the first of them the class token."""
        count, width = patches.shape[1:]
        init = _position_init(width)
        cls = self.param("cls", init, (1, width))
        position = self.param("position", init, (count + 1, width))
        first = jnp.broadcast_to(cls[None], (patches.shape[0], 1, width))
        return jnp.concatenate([first, patches], axis=1) + position[None]


class AudioTrunk(nn.Module):
    """Overlapping patches of a mel picture; every block has one extra key and value."""

    config: ImageBindConfig

    @nn.compact
    def __call__(self, mel: Float[Array, "b h w"]) -> Float[Array, "b d"]:
        """Return the class token of each clip."""
        config = self.config
        size, stride, width = (
            config.audio_patch,
            config.audio_stride,
            config.audio_width,
        )
        patches = nn.Conv(
            width,
            (size, size),
            (stride, stride),
            "VALID",
            use_bias=False,
            kernel_init=FAN_IN_UNIFORM,
            name="patches",
        )(mel[..., None])
        patches = patches.reshape(patches.shape[0], -1, width)
        patches = nn.LayerNorm(PATCH_EPS, name="patch_norm")(patches)
        tokens = PatchTokens(name="tokens")(patches)
        blocks = Blocks(
            width, config.audio_blocks, config.audio_heads, True, name="blocks"
        )
        return blocks(tokens)[:, 0]


class ImageTrunk(nn.Module):
    """Patches of a still or of two frames."""

    config: ImageBindConfig

    @nn.compact
    def __call__(self, frames: Float[Array, "b t s s 3"]) -> Float[Array, "b d"]:
        """Return the class token; one frame stands for two equal ones.

        The patches do not overlap, so their convolution is a matrix product; for
        a still its kernel, summed over time, does half the work.
        """
        config = self.config
        size, side, width = config.image_patch, config.image_grid, config.image_width
        kernel = self.param("kernel", FAN_IN_UNIFORM, (FRAMES, size, size, 3, width))
        if frames.shape[1] == 1:
            kernel = kernel.sum(axis=0, keepdims=True)
        b, t = frames.shape[:2]
        cut = frames.reshape(b, t, side, size, side, size, 3)
        patches = jnp.einsum("btiyjxc,tyxcd->bijd", cut, kernel)
        tokens = PatchTokens(name="tokens")(patches.reshape(b, side * side, width))
        tokens = nn.LayerNorm(EPS, name="first_norm")(tokens)
        blocks = Blocks(width, config.image_blocks, config.image_heads, name="blocks")
        return blocks(tokens)[:, 0]


class TextTrunk(nn.Module):
    """CLIP's causal transformer over byte pairs."""

    config: ImageBindConfig

    @nn.compact
    def __call__(self, ids: Int[Array, "b l"]) -> Float[Array, "b d"]:
        """Return the token at the end of the text, which has the largest id.

        Texts may be cut anywhere after their end: nothing looks ahead. An id that is
        not in the table makes its text NaN, rather than some other word.
        """
        config = self.config
        length, width = ids.shape[1], config.text_width
        table = self.param(
            "table", nn.initializers.normal(0.02), (config.vocabulary, width)
        )
        position = self.param(
            "position", nn.initializers.normal(0.01), (config.text_length, width)
        )
        words = (
            jnp.asarray(table)
            .at[ids]
            .get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        )
        tokens = words + position[None, :length]
        later = jnp.arange(length)[None] > jnp.arange(length)[:, None]
        bias = jnp.where(later, -jnp.inf, 0.0).astype(tokens.dtype)
        blocks = Blocks(width, config.text_blocks, config.text_heads, name="blocks")
        end = jnp.argmax(ids, axis=-1)
        found = blocks(tokens, bias)
        return jnp.take_along_axis(found, end[:, None, None], axis=1)[:, 0]


class Head(nn.Module):
    """Layer norm and a linear map into the common space."""

    embed_dim: int

    @nn.compact
    def __call__(self, feature: Float[Array, "b d"]) -> Float[Array, "b e"]:
        """Project; nothing is normalised yet."""
        value = nn.LayerNorm(EPS, name="norm")(feature)
        head = nn.Dense(
            self.embed_dim, use_bias=False, kernel_init=FAN_IN_UNIFORM, name="linear"
        )
        return head(value)
