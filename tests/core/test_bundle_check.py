"""Models whose settings and parameters do not belong together."""

import pytest

from marssep_jax.bundle_check import require_whole
from marssep_jax.config import EncoderConfig, to_dict
from marssep_jax.untrained import ENCODER, untrained_bundle

BUNDLE = untrained_bundle()


def changed(part, **values):
    config = BUNDLE.config | {part: BUNDLE.config[part] | values}
    return BUNDLE._replace(config=config)


def test_a_whole_model_passes():
    require_whole(BUNDLE)


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        (
            changed("frontend", num_samples=2**70),
            "num_samples is 1180591620717411303424",
        ),
        (changed("frontend", hop=256.0), "hop is 256.0, expected a value of type int"),
        (changed("separator", embed_dim=16), "has shape"),
        (changed("separator", num_channels=9), "has shape"),
        (changed("encoder", audio_widths=[16]), "has shape"),
        (
            changed(
                "encoder", **to_dict(EncoderConfig(embed_dim=16, audio_widths=(8,)))
            ),
            "encoder.embed_dim is 16, expected 12 as the separator has",
        ),
        (BUNDLE._replace(encoder_params=None), "has shape None"),
        (BUNDLE._replace(separator_params={}), "has shape None, expected"),
        (
            BUNDLE._replace(config=BUNDLE.config | {"policy": {"kappa": "x"}}),
            "kappa is 'x', expected a value of type float",
        ),
    ],
)
def test_what_does_not_fit_is_named(bundle, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        require_whole(bundle)


def test_a_separator_without_an_encoder_passes():
    require_whole(BUNDLE._replace(config=BUNDLE.config | {"encoder": None}))
    assert ENCODER.architecture == "small"
