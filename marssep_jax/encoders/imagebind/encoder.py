"""ImageBind behind the contract of every encoder here: waveforms, ids and pixels in.

What turns a waveform into mel pictures runs inside the compiled function and has a
gradient, because a reward is computed where the masks are.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from marssep_jax.encoders.contract import Encoder, normalise
from marssep_jax.encoders.imagebind.config import ImageBindConfig
from marssep_jax.encoders.imagebind.model import make_imagebind, mean_of_clips
from marssep_jax.preprocessing.clip_pictures import DEVIATION, MEAN
from marssep_jax.preprocessing.imagebind_sound import imagebind_sound
from marssep_jax.types import Params


def make_imagebind_encoder(config: ImageBindConfig, rate_hz: int) -> Encoder:
    """Build ImageBind as an `Encoder`.

    ``audio`` takes waveforms at ``rate_hz``, resamples them, and averages three clips
    of 2 s at fixed places; ``text`` takes ids of CLIP's tokenizer; ``image`` takes
    RGB bytes that were resized and cropped (`crop_picture`). There
    is no ``audio_from_grid``: a mel picture cannot be had from a log-frequency grid.

    Args:
      config: sizes.
      rate_hz: rate of the waveforms.
    """
    model = make_imagebind(config)

    def hear(params: Params, waveform: Float[Array, "*b t"]) -> Float[Array, "*b f"]:
        clips = model.features["audio"](params, imagebind_sound(waveform, rate_hz))
        return clips.reshape(*clips.shape[:-2], -1)

    def audio_head(params: Params, feature: Float[Array, "*b f"]) -> Array:
        clips = feature.reshape(*feature.shape[:-1], -1, config.audio_width)
        return normalise(mean_of_clips(model.heads["audio"](params, clips)))

    def audio_from_grid(
        params: Params, log_mag: Float[Array, "*b h w"]
    ) -> Float[Array, "*b d"]:
        raise ValueError(
            "reward_on is 'grid', expected 'waveform': ImageBind hears waveforms only"
        )

    def see(params: Params, pixels: UInt8[Array, "*b s s 3"]) -> Float[Array, "*b f"]:
        share = pixels.astype(jnp.float32) / 255.0
        lead = range(pixels.ndim - 1)
        mean, deviation = (
            jnp.expand_dims(jnp.asarray(values, jnp.float32), lead)
            for values in (MEAN, DEVIATION)
        )
        return model.features["image"](params, (share - mean) / deviation)

    return Encoder(
        init=model.init,
        audio=lambda params, waveform: audio_head(params, hear(params, waveform)),
        audio_from_grid=audio_from_grid,
        text=model.text,
        image=lambda params, pixels: model.heads["image"](params, see(params, pixels)),
        embed_dim=config.embed_dim,
        features={"audio": hear, "text": model.features["text"], "image": see},
        heads={**model.heads, "audio": audio_head},
    )
