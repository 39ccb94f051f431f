"""Whether a model's settings and parameters belong together."""

from collections.abc import Callable

import jax

from marssep_jax.bundle import ModelBundle
from marssep_jax.config import (
    EncoderConfig,
    FrontendConfig,
    PolicyConfig,
    SeparatorConfig,
    from_dict,
)
from marssep_jax.encoders import make_encoder
from marssep_jax.models import make_separator
from marssep_jax.types import Params

LONGEST_WINDOW_S = 3_600
"""Of sound; what a damaged record may claim beyond it would fill any memory."""


def require_whole(bundle: ModelBundle) -> None:
    """Check that a model's settings are sound and that its parameters fit them.

    Raises:
      ValueError: they do not.
    """
    frontend = from_dict(FrontendConfig, bundle.config["frontend"])
    longest = LONGEST_WINDOW_S * frontend.sample_rate_hz
    if frontend.num_samples > longest:
        raise ValueError(
            f"frontend.num_samples is {frontend.num_samples}, expected at most "
            f"{longest}"
        )
    config = from_dict(SeparatorConfig, bundle.config["separator"])
    network = make_separator(config)
    wanted = _shapes(lambda key: network.init(key, frontend))
    _require_like(
        {"separator": (bundle.separator_params, bundle.model_state)},
        {"separator": wanted},
    )
    from_dict(PolicyConfig, bundle.config.get("policy") or {})
    if bundle.config["encoder"] is None:
        return
    encoder_config = from_dict(EncoderConfig, bundle.config["encoder"])
    if encoder_config.embed_dim != config.embed_dim:
        raise ValueError(
            f"encoder.embed_dim is {encoder_config.embed_dim}, expected "
            f"{config.embed_dim} as the separator has"
        )
    if encoder_config.architecture != "small" or encoder_config.text_backbone:
        return  # frozen trunks are checked where they are read
    encoder = make_encoder(encoder_config, frontend)
    _require_like(
        {"encoder": (bundle.encoder_params or {}).get("encoder")},
        {"encoder": _shapes(encoder.init)},
    )


def _shapes(init: Callable[[jax.Array], Params]) -> Params:
    """Return the shapes of what a function would make, without making it."""
    return jax.eval_shape(init, jax.random.key(0))


def _require_like(found: Params, wanted: Params) -> None:
    """Check names and shapes of parameters."""
    theirs, ours = (
        {
            jax.tree_util.keystr(path): tuple(leaf.shape)
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (found, wanted)
    )
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise ValueError(
                f"parameter {name} has shape {theirs.get(name)}, expected "
                f"{ours.get(name)}"
            )
