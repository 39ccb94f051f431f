"""MARS-Sep in JAX: query-conditioned sound separation, reinforced.

The names below are loaded on first use, so importing the package is quick and
needs neither audio libraries nor, ever, TensorFlow or PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from marssep_jax._version import __version__

if TYPE_CHECKING:
    from marssep_jax.audio import read_audio, write_audio
    from marssep_jax.bundle import load_bundle, save_bundle
    from marssep_jax.config import FrontendConfig, SeparatorConfig
    from marssep_jax.encoders import make_encoder
    from marssep_jax.features import istft, make_frontend, stft
    from marssep_jax.inference import Separation, Separator, separate
    from marssep_jax.metrics import bss_eval, si_sdr
    from marssep_jax.models import make_separator
    from marssep_jax.policy import beta_policy, patch_beta_policy
    from marssep_jax.queries import QueryItem, compose, subtract
    from marssep_jax.rewards import weighted_sum
    from marssep_jax.update import make_policy_update, make_supervised_update

# Public name -> the module that defines it.
_HOMES = {
    "FrontendConfig": "config",
    "QueryItem": "queries",
    "Separation": "inference",
    "Separator": "inference",
    "SeparatorConfig": "config",
    "beta_policy": "policy",
    "bss_eval": "metrics",
    "compose": "queries",
    "istft": "features",
    "load_bundle": "bundle",
    "make_encoder": "encoders",
    "make_frontend": "features",
    "make_policy_update": "update",
    "make_separator": "models",
    "make_supervised_update": "update",
    "patch_beta_policy": "policy",
    "read_audio": "audio",
    "save_bundle": "bundle",
    "separate": "inference",
    "si_sdr": "metrics",
    "stft": "features",
    "subtract": "queries",
    "weighted_sum": "rewards",
    "write_audio": "audio",
}

__all__ = [
    "FrontendConfig",
    "QueryItem",
    "Separation",
    "Separator",
    "SeparatorConfig",
    "__version__",
    "beta_policy",
    "bss_eval",
    "compose",
    "istft",
    "load_bundle",
    "make_encoder",
    "make_frontend",
    "make_policy_update",
    "make_separator",
    "make_supervised_update",
    "patch_beta_policy",
    "read_audio",
    "save_bundle",
    "separate",
    "si_sdr",
    "stft",
    "subtract",
    "weighted_sum",
    "write_audio",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
