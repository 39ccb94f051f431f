"""ImageBind behind the contract of every encoder here: waveforms, ids and pixels in.

What turns a waveform into mel pictures runs inside the compiled function and has a
gradient, because a reward is computed where the masks are.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from marssep_jax.encoders.imagebind.config import ImageBindConfig
from marssep_jax.encoders.imagebind.model import make_imagebind, mean_of_clips
from marssep_jax.encoders.trimodal import Encoder, normalise
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

    def audio(params: Params, waveform: Float[Array, "*b t"]) -> Float[Array, "*b d"]:
        clips = model.audio(params, imagebind_sound(waveform, rate_hz))
        return normalise(mean_of_clips(clips))

    def audio_from_grid(
        params: Params, log_mag: Float[Array, "*b h w"]
    ) -> Float[Array, "*b d"]:
        raise ValueError(
            "reward_on is 'grid', expected 'waveform': ImageBind hears waveforms only"
        )

    def image(params: Params, pixels: UInt8[Array, "*b s s 3"]) -> Float[Array, "*b d"]:
        share = pixels.astype(jnp.float32) / 255.0
        lead = range(pixels.ndim - 1)
        mean, deviation = (
            jnp.expand_dims(jnp.asarray(values, jnp.float32), lead)
            for values in (MEAN, DEVIATION)
        )
        return model.image(params, (share - mean) / deviation)

    return Encoder(
        init=model.init,
        audio=audio,
        audio_from_grid=audio_from_grid,
        text=model.text,
        image=image,
        embed_dim=config.embed_dim,
    )
