"""Functions that the stages of a run share, compiled once for all of them."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from experiments.embeddings import CatalogueEmbedder
from marssep_jax.bundle import ModelBundle
from marssep_jax.config import (
    EncoderConfig,
    FrontendConfig,
    JudgeConfig,
    PolicyConfig,
    SeparatorConfig,
    from_dict,
)
from marssep_jax.encoders import make_encoder, make_judge
from marssep_jax.encoders.inputs import make_inputs
from marssep_jax.evaluation import JudgeFn, make_separate_fn
from marssep_jax.features import make_frontend
from marssep_jax.models import make_separator
from marssep_jax.policy import mask_sampler
from marssep_jax.types import Params

# Models compared with each other may differ; more than a few are not at work at once.
keep = functools.lru_cache(maxsize=4)


DEFAULT_POLICY = PolicyConfig()


@keep
def embedder(encoder: EncoderConfig, frontend: FrontendConfig) -> CatalogueEmbedder:
    """Return what embeds a data set."""
    return CatalogueEmbedder(make_encoder(encoder, frontend), make_inputs(encoder))


@keep
def separation(
    separator: SeparatorConfig,
    frontend: FrontendConfig,
    length: int,
    mask: str = "mode",
    policy: PolicyConfig = DEFAULT_POLICY,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Return `make_separate_fn` of mixtures of one length and a kind of mask."""
    network = make_separator(separator)
    mask_fn = mask_sampler(mask, policy)
    return make_separate_fn(network.apply, make_frontend(frontend), length, mask_fn)


@keep
def judging(
    judge: JudgeConfig, frontend: FrontendConfig, num_classes: int
) -> Callable[..., jax.Array]:
    """Return ``(params, waveforms) -> class log-probabilities``."""
    return jax.jit(make_judge(judge, frontend, num_classes).log_prob)


def bundle_separation(
    bundle: ModelBundle,
    length: int,
    mask: str = "mode",
    policy: PolicyConfig | None = None,
) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """Return a bundle's ``(mixture, query, key=None) -> estimates, masks``.

    Args:
      bundle: the model.
      length: of the mixtures, in samples.
      mask: one of `marssep_jax.config.MASKS`; "sample" needs the key.
      policy: whose mean or samples; None takes the policy that the bundle records.
    """
    separate = separation(
        from_dict(SeparatorConfig, bundle.config["separator"]),
        from_dict(FrontendConfig, bundle.config["frontend"]),
        length,
        mask,
        policy or bundle_policy(bundle),
    )
    params, state = jax.device_put((bundle.separator_params, bundle.model_state))
    return functools.partial(separate, params, state)


def bundle_policy(bundle: ModelBundle) -> PolicyConfig:
    """Return the mask policy that a bundle records, the default where it has none."""
    return from_dict(PolicyConfig, bundle.config.get("policy") or {})


def make_judge_fn(
    config: dict[str, Any] | None,
    params: Params | None,
    frontend: FrontendConfig,
    num_classes: int,
) -> JudgeFn | None:
    """Return a judge, waveforms -> class log-probabilities; None without one."""
    if config is None or params is None:
        return None
    log_prob = judging(from_dict(JudgeConfig, config), frontend, num_classes)
    return functools.partial(log_prob, params)


def bundle_judge(bundle: ModelBundle) -> JudgeFn | None:
    """Return a bundle's judge."""
    return make_judge_fn(
        bundle.config.get("judge"),
        bundle.judge_params,
        from_dict(FrontendConfig, bundle.config["frontend"]),
        len(bundle.config.get("class_names", ())),
    )
