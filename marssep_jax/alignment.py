"""Progressive alignment of the reward encoder (method section 3).

A stage (`marssep_jax.curriculum`) is a weighted sum of the losses below and a set of
parts that may learn. The pooling that makes the reward's anchor learns beside them,
on detached embeddings.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from marssep_jax.contrastive import info_nce, triplet
from marssep_jax.curriculum import StageConfig
from marssep_jax.encoders import Encoder
from marssep_jax.fusion import Fusion
from marssep_jax.state import TrainState
from marssep_jax.types import Metrics, Params


class AlignmentBatch(NamedTuple):
    """Clips with their captions and pictures, or features of frozen trunks.

    ``view`` is a second augmentation of ``audio``; ``positive`` another clip of
    its class; ``negative`` a clip of another class of the same family. Those that
    a stage does not hear (`waveforms_heard`) may be None.
    """

    audio: Float[Array, "b t"]
    view: Float[Array, "b t"]
    text: Int[Array, "b l"] | Float[Array, "b f"]
    image: UInt8[Array, "b s s 3"] | Float[Array, "b f"]
    has_image: Float[Array, " b"]
    label: Int[Array, " b"]
    positive: Float[Array, "b t"] | None = None
    negative: Float[Array, "b t"] | None = None


class _Embedded:
    """Embeddings of one batch, each computed on first use."""

    def __init__(
        self,
        encoder: Encoder,
        params: Params,
        batch: AlignmentBatch,
        hear: Callable[[PRNGKeyArray, Array], Array] | None,
        key: PRNGKeyArray,
    ) -> None:
        self._encoder, self._params, self._batch = encoder, params, batch
        self._hear, self._key = hear, key
        self._done: dict[str, Array] = {}

    def __call__(self, name: str) -> Array:
        if name not in self._done:
            kind = name if name in ("text", "image") else "audio"
            value = getattr(self._batch, name)
            if value is None:
                raise ValueError(f"batch.{name} is None, expected what the stage hears")
            self._done[name] = self._embed(kind, value)
        return self._done[name]

    def _embed(self, kind: str, value: Array) -> Array:
        if kind != "audio" or self._hear is None:
            return getattr(self._encoder, kind)(self._params, value)
        key = jax.random.fold_in(self._key, len(self._done))
        return self._encoder.audio_from_grid(self._params, self._hear(key, value))


LossFn = Callable[[_Embedded, AlignmentBatch, Array, float], Array]


def _stage_losses() -> dict[str, LossFn]:
    """Return the alignment losses by name: (embed, batch, temperature, margin)."""
    return {
        "audio_text": lambda e, b, t, m: info_nce(e("audio"), e("text"), b.label, t),
        "audio_audio": lambda e, b, t, m: info_nce(
            e("audio"), e("positive"), b.label, t
        ),
        "triplet": lambda e, b, t, m: triplet(
            e("audio"), e("positive"), e("negative"), m
        ),
        "consistency": lambda e, b, t, m: (
            1.0 - jnp.mean(jnp.sum(e("audio") * e("view"), axis=-1))
        ),
        "audio_vision": lambda e, b, t, m: info_nce(
            e("audio"), e("image"), b.label, t, b.has_image
        ),
        "vision_triplet": lambda e, b, t, m: triplet(
            e("image"), e("audio"), e("negative"), m, b.has_image
        ),
    }


def pooling_loss(
    key: PRNGKeyArray,
    fuse: Callable[[Array, Array, Array], Array],
    embed: Callable[[str], Array],
    batch: AlignmentBatch,
    log_temperature: Float[Array, ""],
) -> Float[Array, ""]:
    """Pull anchors fused from random subsets of the modalities to their clips.

    Embeddings are detached: the pooling learns what the encoder already knows.
    """
    audio, text, image, clip = (
        jax.lax.stop_gradient(embed(name))
        for name in ("view", "text", "image", "audio")
    )
    keep = jax.random.bernoulli(key, 0.7, (3, audio.shape[0], 1)).astype(audio.dtype)
    # Text is always there, so that no anchor is empty.
    image = image * keep[2] * batch.has_image[:, None]
    anchor = fuse(audio * keep[0], text, image)
    return info_nce(anchor, clip, batch.label, jax.lax.stop_gradient(log_temperature))


def trainable_only(
    tx: optax.GradientTransformation, parts: tuple[str, ...]
) -> optax.GradientTransformation:
    """Let an optimiser move the named parts of the encoder, and the pooling."""

    def label(params: Params) -> Params:
        def mark(name: str) -> str:
            return "learn" if name in parts else "keep"

        encoder = {
            name: jax.tree.map(lambda _, n=name: mark(n), part)
            for name, part in params["encoder"].items()
        }
        fusion = jax.tree.map(lambda _: "learn", params["fusion"])
        return {"encoder": encoder, "fusion": fusion}

    return optax.multi_transform({"learn": tx, "keep": optax.set_to_zero()}, label)


def make_alignment_update(
    encoder: Encoder,
    fusion: Fusion,
    stage: StageConfig,
    tx: optax.GradientTransformation,
    hear: Callable[[PRNGKeyArray, Array], Array] | None = None,
) -> Callable[[TrainState, AlignmentBatch], tuple[TrainState, Metrics]]:
    """Return the jitted step of one stage; the state is donated.

    ``state.params`` is ``{"encoder": ..., "fusion": ...}`` and ``tx`` should come
    from ``trainable_only``. ``hear(key, waveform [b, t]) -> log magnitudes
    [b, h, w]`` puts an augmentation before the audio trunk.

    Raises:
      ValueError: a loss the module does not have.
    """
    losses = _stage_losses()
    weights: Mapping[str, float] = dict(stage.weights)
    unknown = sorted(set(weights) - set(losses) - {"pooling"})
    if unknown:
        raise ValueError(
            f"loss is {unknown[0]!r}, expected pooling or one of {sorted(losses)}"
        )

    def objective(
        params: Params, batch: AlignmentBatch, key: PRNGKeyArray
    ) -> tuple[Array, Metrics]:
        # What the stage does not train needs no gradient: XLA then leaves it out.
        frozen = {
            name: part if name in stage.trainable else jax.lax.stop_gradient(part)
            for name, part in params["encoder"].items()
        }
        pooling_key, hear_key = jax.random.split(key)
        embed = _Embedded(encoder, frozen, batch, hear, hear_key)
        temperature = frozen["log_temperature"]
        fuse = partial(fusion.apply, params["fusion"])
        total, metrics = jnp.zeros(()), {}
        for name, weight in weights.items():
            if name == "pooling":
                value = pooling_loss(pooling_key, fuse, embed, batch, temperature)
            else:
                value = losses[name](embed, batch, temperature, stage.margin)
            metrics[f"align/{name}"] = value
            total = total + weight * value
        return total, {**metrics, "align/loss": total}

    @partial(jax.jit, donate_argnums=0)
    def update(state: TrainState, batch: AlignmentBatch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        (_, metrics), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params, batch, key
        )
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics["grad/norm"] = optax.tree.norm(grads)
        state = dataclasses.replace(
            state, step=state.step + 1, params=params, opt_state=opt_state
        )
        return state, metrics

    return update
