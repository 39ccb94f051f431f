"""Encoders of sound, words and pictures, and the judge."""

from marssep_jax.config import EncoderConfig, FrontendConfig
from marssep_jax.encoders.backbones import backbones_of, read_sizes
from marssep_jax.encoders.contract import Encoder
from marssep_jax.encoders.judge import Judge, make_judge
from marssep_jax.encoders.trimodal import make_small_encoder

__all__ = ["Encoder", "Judge", "make_encoder", "make_judge"]


def make_encoder(config: EncoderConfig, frontend_config: FrontendConfig) -> Encoder:
    """Build the encoder that a configuration names.

    Args:
      config: its sizes, and the folders of its published parts.
      frontend_config: the waveforms' rate; for the small encoder also its grid.

    Raises:
      ValueError: published weights that are not there, or of other sizes.
    """
    if config.architecture == "small":
        return make_small_encoder(config, frontend_config)
    return _imagebind(config, frontend_config.sample_rate_hz)


def _imagebind(config: EncoderConfig, rate_hz: int) -> Encoder:
    # Two thirds of a second of imports that the small encoder has no use for.
    from marssep_jax.config import from_dict
    from marssep_jax.encoders.imagebind import ImageBindConfig, make_imagebind_encoder

    (backbone,) = backbones_of(config)
    sizes = from_dict(ImageBindConfig, read_sizes(backbone))
    for name in ("embed_dim", "image_size", "text_length"):
        mine, theirs = getattr(config, name), getattr(sizes, name)
        if mine != theirs:
            raise ValueError(
                f"config.encoder.{name} is {mine}, expected {theirs} as "
                f"{config.backbone!r} has"
            )
    return make_imagebind_encoder(sizes, rate_hz)
