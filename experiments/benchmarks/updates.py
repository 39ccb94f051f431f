"""Supervised and policy steps of the published separator, ours and PyTorch's."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks import references
from experiments.benchmarks.facts import on_cpu
from experiments.benchmarks.rows import (
    UNAVAILABLE,
    NotMeasuredError,
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

STEPS = {"supervised": "supervised", "policy": "rl_g8"}
"""Our steps, and what rows call them."""
WAYS = ("torch", "torch_compile")
"""PyTorch eager, and compiled."""
PRECISIONS = ("float32", "bfloat16")


def row_name(step: str, precision: str, way: str) -> str:
    """Return the name of a comparison with PyTorch."""
    kind = "" if precision == "float32" else f"_{precision}"
    return f"update.{STEPS[step]}{kind}_vs_{way}"


BESIDE = "update.rl_g8_vs_supervised"
NAMES = (
    BESIDE,
    *(row_name(s, p, way) for p in PRECISIONS for s in STEPS for way in WAYS),
)

TARGETS = {BESIDE: 0.5}
CPU_TARGETS = {"update.supervised_vs_torch": 1.0, "update.rl_g8_vs_torch": 5.0}
ACCELERATOR_TARGETS = {"torch": 2.0, "torch_compile": 1.2}

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
    group_size: int = GROUP_SIZE


FULL = Sizes(FrontendConfig(), SeparatorConfig(), EncoderConfig(), 2, 6)
# Two mixtures leave most of an accelerator idle; its rounds are short.
ACCELERATOR = FULL._replace(batch_size=32, rounds=20)
TINY = Sizes(
    FrontendConfig(num_samples=8_191, num_rows=64),
    SeparatorConfig(embed_dim=8, num_channels=4, widths=(8, 8, 8)),
    EncoderConfig(embed_dim=8, audio_widths=(8, 16)),
    batch_size=1,
    rounds=1,
    group_size=2,  # torch.compile unrolls it
)


def is_timed(precision: str, tiny: bool) -> bool:
    """Say whether a precision is timed here: bfloat16 is for accelerators."""
    return precision == "float32" or tiny or not on_cpu()


def choose_sizes(tiny: bool) -> Sizes:
    """Return what is timed on JAX's backend."""
    if tiny:
        return TINY
    return FULL if on_cpu() else ACCELERATOR


def measure(tiny: bool, compiled: bool = True) -> list[Row]:
    """Time the steps of a precision in turn; without PyTorch, ours alone.

    Args:
      tiny: sizes for tests.
      compiled: also against torch.compile, which takes a minute or more to compile.
    """
    sizes = choose_sizes(tiny)
    batch = draw_batch(sizes)
    rows: list[Row] = []
    for precision in PRECISIONS:
        # One after the other: the states of half of the steps at a time.
        if is_timed(precision, tiny):
            rows += _measure(sizes, batch, precision, compiled)
        else:
            reason = f"{precision} is for accelerators"
            names = (row_name(step, precision, way) for step in STEPS for way in WAYS)
            rows += (not_measured(name, reason) for name in names)
    found = {row["name"]: row for row in rows}
    return [found[name] for name in NAMES]


def _measure(
    sizes: Sizes, batch: MixtureBatch, precision: str, compiled: bool
) -> list[Row]:
    """Return a precision's rows, in any order."""
    jobs: dict[str, Job] = {}
    rows: list[Row] = []
    pairs = []  # row, our step, what it is compared with, and that job
    for way in WAYS:
        names = {step: row_name(step, precision, way) for step in STEPS}
        try:
            if way == "torch_compile" and not compiled:
                raise NotMeasuredError("torch.compile is left out here")
            device = references.torch_device()
            from experiments.benchmarks.torch_steps import torch_steps

            steps = torch_steps(
                sizes, batch, device, precision, compiled=way == "torch_compile"
            )
        except UNAVAILABLE as error:
            reason = why_missing(error)
            rows += (not_measured(name, reason) for name in names.values())
            continue
        credit = _credit(way, precision, device)
        for step, name in names.items():
            jobs[name] = steps[step]
            pairs.append((name, step, credit, name))
    if precision == "float32":
        pairs.append((BESIDE, "policy", "our supervised step", "supervised"))
    if not pairs:
        return rows
    times = alternate({**our_steps(sizes, batch, precision), **jobs}, sizes.rounds)
    for name, step, credit, other in pairs:
        row = ratio_row(
            name,
            times[step],
            credit,
            times[other],
            target=target_of(name),
            mixtures=sizes.batch_size,
        )
        rows.append(row)
    return rows


def _credit(way: str, precision: str, device: str) -> str:
    """Return what a row says of PyTorch's side."""
    words = [
        f"PyTorch {references.version('torch')}",
        "eager" if way == "torch" else "torch.compile",
    ]
    if precision != "float32":
        words.append(f"autocast to {precision}")
    elif device == "cuda":
        words.append(references.SAME_PRODUCTS)
    return ", ".join(words)


def target_of(name: str) -> float | None:
    """Return the speedup that a row aims at on JAX's backend."""
    if name in TARGETS:
        return TARGETS[name]
    if on_cpu():
        return CPU_TARGETS.get(name)
    return ACCELERATOR_TARGETS[name.partition("_vs_")[2]]


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
        group_size=sizes.group_size,
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
