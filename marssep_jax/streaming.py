"""Separate a recording as it arrives, in constant memory.

The recording is cut into windows of fixed length; each window's mono mix is
resampled to the model's rate and gives one mask. Masks are cross-faded where windows
overlap, and the joined mask is applied to every channel at the recording's own rate,
so that the channels stay in phase, by an STFT that runs on from window to window: no
sound is cut and joined. Memory is bounded by a few windows, and there is one
compilation for the network and two small ones for each sample rate, whatever the
lengths. Nothing is normalised: target and residual add up to the mixture.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.audio import BLOCK_SAMPLES, RATE_RANGE_HZ, RunningResampler
from marssep_jax.bundle import ModelBundle
from marssep_jax.config import (
    FrontendConfig,
    PolicyConfig,
    SeparatorConfig,
    from_dict,
)
from marssep_jax.features import make_frontend
from marssep_jax.models import make_separator
from marssep_jax.policy import mask_sampler
from marssep_jax.queries import Query
from marssep_jax.running_filter import Filtered, RunningFilter
from marssep_jax.transfer import make_transfer
from marssep_jax.types import Params
from marssep_jax.windows import Window, cut_windows, fill_mirrored, join

# ours: on a CPU a batch of windows takes as long as its windows one by one.
ACCELERATOR_WINDOW_BATCH = 8

Blocks = Iterable[Float[np.ndarray, "c _"]]
StreamFn = Callable[[Blocks], Iterator["Separation"]]
ChoiceFn = Callable[[np.ndarray, Float[Array, "b h w"]], Float[Array, "b h w"]]
MaskFn = Callable[
    [Params, Params, Float[Array, "b t"], Float[Array, " d"]], Float[Array, "b h w"]
]


class Separation(NamedTuple):
    """What a query found.

    ``estimate`` and ``residual`` have the mixture's shape and rate and add up to
    it; ``mask`` is the one that made them, on the model's log-frequency grid, or one
    for each channel.
    ``scores``, of whole recordings alone, are described at
    `marssep_jax.hearing.score`.
    """

    estimate: Float[np.ndarray, "*c t"]
    residual: Float[np.ndarray, "*c t"]
    mask: Float[np.ndarray, "*c h w"]
    scores: dict[str, float] | None = None


@functools.lru_cache(maxsize=8)
def make_mask_fn(frontend_config: FrontendConfig, config: SeparatorConfig) -> MaskFn:
    """Build the jitted map from windows to the proposal P, the mode."""
    frontend = make_frontend(frontend_config)
    network = make_separator(config)

    def mask_fn(
        params: Params,
        model_state: Params,
        mono: Float[Array, "b t"],
        query: Float[Array, " d"],
    ) -> Float[Array, "b h w"]:
        log_mag = frontend.analyse(mono).log_mag
        queries = jnp.broadcast_to(query, (mono.shape[0], 1, query.shape[0]))
        logits, _ = network.apply(params, model_state, log_mag, queries)
        return jax.nn.sigmoid(logits[:, 0])

    return jax.jit(mask_fn)


def frontend_config(bundle: ModelBundle) -> FrontendConfig:
    """Return the front end that a bundle was trained with."""
    return from_dict(FrontendConfig, bundle.config["frontend"])


def stream(
    bundle: ModelBundle,
    blocks: Blocks,
    rate_hz: int,
    query: Query,
    *,
    window_batch: int | None = None,
    mask: str = "mode",
    seed: int = 0,
    per_channel: bool = False,
) -> Iterator[Separation]:
    """Separate a recording that arrives in blocks, in constant memory.

    Args:
      bundle: the model.
      blocks: samples ``[channels, any]`` in order.
      rate_hz: their rate.
      query: what to separate.
      window_batch: windows a step; default 1 on a CPU, else 8.
      mask: "mode", "mean" or "sample" of the policy around P.
      seed: of what is sampled; every window has a key of its own.
      per_channel: hear every channel by itself and give it a mask of its own, for
        channels that hold different things; they may then fall out of phase.

    Yields:
      Consecutive parts; their estimates, residuals and masks are to be
      concatenated along the last axis.

    Raises:
      ValueError: a sample rate out of range, or another mask.
    """
    _require_rate(rate_hz)
    if window_batch is None:
        on_cpu = jax.default_backend() == "cpu"
        window_batch = 1 if on_cpu else ACCELERATOR_WINDOW_BATCH

    def one(some: Blocks) -> Iterator[Separation]:
        return _stream(bundle, some, rate_hz, query, window_batch, mask, seed)

    yield from _stream_apart(one, blocks) if per_channel else one(blocks)


def _stream_apart(one: StreamFn, blocks: Blocks) -> Iterator[Separation]:
    """Separate every channel by itself, all of them in step."""
    blocks = iter(blocks)
    first = list(itertools.islice(blocks, 1))
    num_channels = first[0].shape[0] if first else 0
    copies = itertools.tee(itertools.chain(first, blocks), num_channels)
    streams = [one(_channel(copy, c)) for c, copy in enumerate(copies)]
    for parts in zip(*streams, strict=True):
        estimate, residual = (
            np.concatenate([part[field] for part in parts]) for field in range(2)
        )
        yield Separation(estimate, residual, np.stack([part.mask for part in parts]))


def _channel(blocks: Blocks, index: int) -> Iterator[Float[np.ndarray, "1 _"]]:
    for block in blocks:
        yield block[index : index + 1]


def _stream(
    bundle: ModelBundle,
    blocks: Blocks,
    rate_hz: int,
    query: Query,
    window_batch: int,
    mask: str,
    seed: int,
) -> Iterator[Separation]:
    """Separate all channels by one mask."""
    choose = _make_choice(mask, _policy_of(bundle))
    keys = _keys(seed)
    transfer = make_transfer(frontend_config(bundle), rate_hz)
    plan = transfer.plan
    running = RunningFilter(transfer, plan.step_frames * window_batch)
    heard = _heard(bundle, blocks, rate_hz, running)
    hop, tail = frontend_config(bundle).hop, None
    ready: list[np.ndarray] = []
    for group in _grouped(cut_windows(heard, plan.length, plan.stride), window_batch):
        proposals = _propose(bundle, group, query, window_batch)
        masks = choose(np.stack([next(keys) for _ in range(window_batch)]), proposals)
        for window, chosen in zip(group, np.asarray(masks), strict=False):
            width = max(1 + window.num_valid // hop, plan.overlap_columns)
            columns, tail = join(
                tail, chosen[:, :width], plan.overlap_columns, window.is_last
            )
            ready.append(columns)
            for part in running.push(columns):
                yield _separation(part, ready)
                ready = [columns[:, :0]]
    for part in running.finish():
        yield _separation(part, ready)


def _grouped(windows: Iterator[Window], size: int) -> Iterator[list[Window]]:
    group: list[Window] = []
    for window in windows:
        group.append(window)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _policy_of(bundle: ModelBundle) -> PolicyConfig:
    """Return the policy that a model was reinforced with, or the paper's."""
    return from_dict(PolicyConfig, bundle.config.get("policy") or {})


@functools.lru_cache(maxsize=8)
def _make_choice(name: str, config: PolicyConfig) -> ChoiceFn:
    """Build the jitted map from keys [b, 2] and proposals to masks [b, h, w]."""
    sample = mask_sampler(name, config)
    if sample is None:
        return lambda keys, proposals: proposals

    def choose(keys: Array, proposals: Array) -> Array:
        return jax.vmap(sample)(jax.random.wrap_key_data(keys), proposals)

    return jax.jit(choose)


def _keys(seed: int) -> Iterator[np.ndarray]:
    """Yield the raw key of every window; one does not depend on the batch's size."""
    root = jax.random.key(seed)
    for index in itertools.count():
        yield np.asarray(jax.random.key_data(jax.random.fold_in(root, index)))


def _heard(
    bundle: ModelBundle,
    blocks: Blocks,
    rate_hz: int,
    running: RunningFilter,
) -> Iterator[Float[np.ndarray, "1 _"]]:
    """Yield the mono mix at the model's rate; channels go to the filter."""
    resampler = RunningResampler(rate_hz, frontend_config(bundle).sample_rate_hz)
    for block in blocks:
        for start in range(0, block.shape[1], BLOCK_SAMPLES):
            piece = np.asarray(block[:, start : start + BLOCK_SAMPLES], np.float32)
            running.take(piece)
            yield resampler.push(piece.mean(axis=0))[None]
    yield resampler.finish()[None]


def _propose(
    bundle: ModelBundle, group: Sequence[Window], query: Query, window_batch: int
) -> Float[Array, "b h w"]:
    """Return proposals of windows; those that are missing from the batch are empty."""
    config = frontend_config(bundle)
    separator_config = from_dict(SeparatorConfig, bundle.config["separator"])
    heard = np.zeros((window_batch, config.num_samples), np.float32)
    for row, window in enumerate(group):
        heard[row] = fill_mirrored(window.samples[0], window.num_valid)
    proposal = make_mask_fn(config, separator_config)(
        bundle.separator_params, bundle.model_state, jnp.asarray(heard), query.embedding
    )
    return 1.0 - proposal if query.complement else proposal


def _separation(part: Filtered, columns: Sequence[np.ndarray]) -> Separation:
    """Return a part with the mask columns that have become known since the last."""
    residual = part.mixture - part.estimate
    return Separation(part.estimate, residual, np.concatenate(columns, axis=1))


def _require_rate(rate_hz: int) -> None:
    low, high = RATE_RANGE_HZ
    if int(rate_hz) != rate_hz or not low <= rate_hz <= high:
        raise ValueError(
            f"rate is {rate_hz}, expected a whole number from {low} to {high} Hz"
        )
