"""Models of random weights: for trying the interface, and for tests."""

import jax

from marssep_jax.bundle import ModelBundle
from marssep_jax.config import EncoderConfig, FrontendConfig, SeparatorConfig, to_dict
from marssep_jax.encoders import make_encoder
from marssep_jax.models import make_separator

FRONTEND = FrontendConfig(num_samples=4_096, num_rows=32)
SEPARATOR = SeparatorConfig("compact", embed_dim=12, num_channels=8, widths=(8, 16))
ENCODER = EncoderConfig(embed_dim=12, audio_widths=(8,), image_widths=(8,))


def untrained_bundle(seed: int = 0, frontend: FrontendConfig = FRONTEND) -> ModelBundle:
    """Return a tiny separator with its encoder, which know nothing.

    Args:
      seed: of the weights.
      frontend: signal front end; 16 kHz and windows of a quarter of a second by
        default.
    """
    network_key, encoder_key = jax.random.split(jax.random.key(seed))
    params, state = make_separator(SEPARATOR).init(network_key, frontend)
    encoder = make_encoder(ENCODER, frontend)
    return ModelBundle(
        config={
            "frontend": to_dict(frontend),
            "separator": to_dict(SEPARATOR),
            "encoder": to_dict(ENCODER),
            "judge": None,
            "class_names": ["violin", "flute"],
            "step": 0,
            "stage": "untrained",
            "licence": "CC0-1.0",
            "versions": {},
        },
        separator_params=params,
        model_state=state,
        encoder_params={"encoder": encoder.init(encoder_key)},
        judge_params=None,
    )
