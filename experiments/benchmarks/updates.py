"""Supervised and policy steps of the published separator, ours and PyTorch's."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import references
from experiments.benchmarks.rows import (
    UNAVAILABLE,
    Row,
    not_measured,
    ratio_row,
    why_missing,
)
from experiments.benchmarks.timing import Job, alternate
from marssep_jax.advantages import group_advantage
from marssep_jax.config import EncoderConfig, FrontendConfig, SeparatorConfig
from marssep_jax.encoders import make_encoder
from marssep_jax.features import make_frontend
from marssep_jax.listening import make_waveform_listener
from marssep_jax.models import make_separator
from marssep_jax.objectives import binary_mask_target, make_supervised_objective
from marssep_jax.policy import beta_policy
from marssep_jax.rewards import cosine_reward
from marssep_jax.state import TrainState, create_state
from marssep_jax.surrogates import clipped_surrogate
from marssep_jax.types import MixtureBatch
from marssep_jax.update import make_policy_update, make_supervised_update
from marssep_jax.update.gradients import UpdateFn

NAMES = (
    "update.supervised_vs_torch",
    "update.rl_g8_vs_supervised",
    "update.rl_g8_vs_torch",
)

GROUP_SIZE, NUM_TARGETS = 8, 2
# OmniSep's supervised step, and the paper's policy step.
SUPERVISED_RATE, POLICY_RATE, WEIGHT_DECAY, CLIP_NORM = 1e-3, 2e-4, 0.01, 1.0


class Sizes(NamedTuple):
    """What is trained, on how much, and how often it is timed."""

    frontend: FrontendConfig
    separator: SeparatorConfig
    encoder: EncoderConfig
    batch_size: int
    rounds: int


FULL = Sizes(FrontendConfig(), SeparatorConfig(), EncoderConfig(), 2, 3)
QUICK = Sizes(
    FrontendConfig(num_samples=8_191, num_rows=64),
    SeparatorConfig(embed_dim=8, num_channels=4, widths=(8, 8, 8)),
    EncoderConfig(embed_dim=8, audio_widths=(8, 16)),
    1,
    1,
)


def measure(quick: bool) -> list[Row]:
    """Time the four steps in turn; without PyTorch, ours alone."""
    sizes = QUICK if quick else FULL
    batch = draw_batch(sizes)
    jobs: dict[str, Job] = {**our_steps(sizes, batch)}
    reason = ""
    try:
        references.require_cpu()
        from experiments.benchmarks.torch_steps import torch_steps

        jobs |= torch_steps(sizes, batch)
    except UNAVAILABLE as error:
        reason = why_missing(error)
    times = alternate(jobs, sizes.rounds)
    beside = ratio_row(
        NAMES[1], times["policy"], "our supervised step", times["supervised"]
    )
    if reason:
        first, last = (not_measured(name, reason) for name in (NAMES[0], NAMES[2]))
        return [first, beside, last]
    credit = f"PyTorch {references.version('torch')}, eager"
    first, last = (
        ratio_row(name, times[step], credit, times[f"torch_{step}"])
        for name, step in ((NAMES[0], "supervised"), (NAMES[2], "policy"))
    )
    return [first, beside, last]


def draw_batch(sizes: Sizes) -> MixtureBatch:
    """Draw noises that rise and fall, so that targets win and lose bins."""
    draw = np.random.default_rng(0)
    b, k, d = sizes.batch_size, NUM_TARGETS, sizes.separator.embed_dim
    target = 0.1 * draw.standard_normal((b, k, sizes.frontend.num_samples))
    phase = np.linspace(0, 6 * np.pi, target.shape[-1]) + np.arange(k)[:, None]
    query = draw.standard_normal((b, k, d))
    query /= np.linalg.norm(query, axis=-1, keepdims=True)
    empty = np.zeros((b, k, sizes.encoder.embed_dim), np.float32)
    arrays: Any = (
        (target * np.cos(phase)).astype(np.float32),
        query.astype(np.float32),
        empty,
        empty,
        np.zeros((b, k), np.int32),
    )
    return MixtureBatch(*arrays)


def our_steps(
    sizes: Sizes, batch: MixtureBatch, precision: str = "float32"
) -> dict[str, "Stepper"]:
    """Return our two steps, each with a state of its own that goes on.

    Args:
      sizes: what is trained.
      batch: of `draw_batch`.
      precision: of the separator's activations.
    """
    frontend = make_frontend(sizes.frontend)
    separator = make_separator(sizes.separator, jnp.dtype(precision))
    encoder = make_encoder(sizes.encoder, sizes.frontend)
    heard = encoder.init(jax.random.key(1))
    hear = partial(encoder.audio, heard)
    clip = optax.clip_by_global_norm(CLIP_NORM)
    adam = optax.chain(clip, optax.adam(SUPERVISED_RATE))
    adamw = optax.chain(clip, optax.adamw(POLICY_RATE, weight_decay=WEIGHT_DECAY))
    advantage = group_advantage()
    supervised = make_supervised_update(
        separator.apply, frontend, make_supervised_objective(binary_mask_target), adam
    )
    policy = make_policy_update(
        separator.apply,
        frontend,
        beta_policy(),
        make_waveform_listener(frontend, hear),
        lambda batch: hear(batch.target),
        cosine_reward(),
        advantage,
        clipped_surrogate(),
        adamw,
        group_size=GROUP_SIZE,
    )
    key = jax.random.key(0)
    params, model_state = separator.init(key, sizes.frontend)
    placed = jax.device_put(batch)
    return {
        "supervised": Stepper(
            supervised, create_state(key, params, model_state, adam), placed
        ),
        "policy": Stepper(
            policy, create_state(key, params, model_state, adamw, advantage), placed
        ),
    }


class Stepper:
    """Takes a step at every call."""

    def __init__(
        self, update: UpdateFn, state: TrainState, batch: MixtureBatch
    ) -> None:
        self._update, self._state, self._batch = update, state, batch

    def __call__(self) -> Any:
        """Return what has to be waited for."""
        self._state, metrics = self._update(self._state, self._batch)
        return self._state.params, metrics

    def compiled(self) -> jax.stages.Compiled:
        """Return the program of a step, for what its compiler says of it."""
        jitted: Any = self._update
        return jitted.lower(self._state, self._batch).compile()
