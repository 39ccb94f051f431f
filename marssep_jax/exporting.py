"""The separator's forward as one file that JAX runs without this package.

What is exported is fixed: the length of a window, the windows of a call, the rate.
Parameters are part of it, and the query too if one is given. Loading it takes jax,
numpy and flatbuffers alone:

    exported = jax.export.deserialize(open("violin.jaxexport", "rb").read())
    estimate = exported.call(mixture)  # [batch, samples] at the model's rate
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Float

from marssep_jax.bundle import ModelBundle
from marssep_jax.config import SeparatorConfig, from_dict
from marssep_jax.features import make_frontend
from marssep_jax.folders import replace_file
from marssep_jax.models import make_separator
from marssep_jax.optional import import_package
from marssep_jax.queries import Query
from marssep_jax.reconstruct import make_reconstruct
from marssep_jax.streaming import frontend_config

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def make_forward(
    bundle: ModelBundle,
) -> Callable[[Float[Array, "b t"], Float[Array, "b d"]], Float[Array, "b t"]]:
    """Build ``(mixtures, query embeddings) -> estimates`` at the model's rate.

    Args:
      bundle: the model; its parameters are closed over.
    """
    config = frontend_config(bundle)
    frontend = make_frontend(config)
    network = make_separator(from_dict(SeparatorConfig, bundle.config["separator"]))
    reconstruct = make_reconstruct(frontend, config.num_samples)

    def forward(
        mixture: Float[Array, "b t"], query: Float[Array, "b d"]
    ) -> Float[Array, "b t"]:
        features = frontend.analyse(mixture)
        logits, _ = network.apply(
            bundle.separator_params,
            bundle.model_state,
            features.log_mag,
            query[:, None],
        )
        return reconstruct(jax.nn.sigmoid(logits), features.stft)[:, 0]

    return forward


def export_forward(
    bundle: ModelBundle,
    query: Query | None = None,
    *,
    batch: int = 1,
    platforms: Sequence[str] = ("cpu",),
) -> export.Exported:
    """Lower the forward of whole windows for some platforms.

    Args:
      bundle: the model.
      query: what it is to separate; None leaves it an argument ``[batch, d]``.
      batch: windows of a call.
      platforms: of `PLATFORMS`; none of them need be at hand.

    Returns:
      ``exported.call(mixture [batch, samples]) -> estimate [batch, samples]``, or
      ``exported.call(mixture, query [batch, d])``; float32, samples at the model's
      rate.

    Raises:
      ValueError: a platform that JAX does not have, or fewer than one window.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}, expected >= 1")
    unknown = sorted(set(platforms) - set(PLATFORMS))
    if unknown or not platforms:
        given = unknown[0] if unknown else ""
        raise ValueError(
            f"platform is {given!r}, expected one of {', '.join(PLATFORMS)}"
        )
    forward = make_forward(bundle)
    size = (batch, frontend_config(bundle).num_samples)
    mixture = jax.ShapeDtypeStruct(size, jnp.float32)
    if query is None:
        dim = bundle.config["separator"]["embed_dim"]
        queries = jax.ShapeDtypeStruct((batch, dim), jnp.float32)
        return export.export(jax.jit(forward), platforms=platforms)(mixture, queries)
    wanted = jnp.broadcast_to(query.embedding, (batch, *query.embedding.shape))

    def separate(given: Float[Array, "b t"]) -> Float[Array, "b t"]:
        found = forward(given, wanted)
        return given - found if query.complement else found

    return export.export(jax.jit(separate), platforms=platforms)(mixture)


def save_export(path: str | os.PathLike[str], exported: export.Exported) -> int:
    """Write an export whole or not at all; return its size in bytes.

    Raises:
      ModuleNotFoundError: flatbuffers is missing.
      OSError: no room, or no permission.
    """
    import_package("flatbuffers", "writing an export")
    raw = bytes(exported.serialize())
    replace_file(Path(path), raw)
    return len(raw)
