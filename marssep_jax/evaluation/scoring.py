"""Scores of every target of every mixture, by kind of query.

Every mixture passes the network once, with the queries of all kinds side by side.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax.features import Frontend
from marssep_jax.metrics import bss_eval, sdr, si_sdr
from marssep_jax.reconstruct import make_reconstruct
from marssep_jax.types import Params, SeparatorFn

BATCH_SIZE = 16
"""Mixtures at once."""

KINDS = ("text", "audio", "image", "composed")
ABSENT_KIND = "text"
"""Absent classes are asked for in words."""

ENERGY_FLOOR = 1e-10
"""Of the mixture's energy: an estimate that is all zeros counts as -100 dB of it."""

SeparateFn = Callable[
    [Float[Array, "b t"], Float[Array, "b k d"]], Float[Array, "b k t"]
]
JudgeFn = Callable[[Float[Array, "*b t"]], Float[Array, "*b c"]]
"""Waveforms -> class log-probabilities; -inf for classes that it cannot name, whose
targets it does not score."""
Scores = dict[str, np.ndarray]


class EvaluationMixture(NamedTuple):
    """One mixture, the sum of its targets, and ways to ask for them.

    ``queries`` holds embeddings [k, d] by kind; a row of zeros is not asked.
    ``absent`` asks for a class that is not in the mixture, None asks for none. Scores
    are those of the first ``scored_samples``, equal in all mixtures; None takes all.
    """

    name: str
    target: Float[np.ndarray, "k t"]
    label: np.ndarray
    queries: Mapping[str, Float[np.ndarray, "k d"]]
    absent: Float[np.ndarray, " d"] | None = None
    scored_samples: int | None = None


class Evaluation(NamedTuple):
    """Scores of one model.

    ``scores[kind][metric]`` is [mixtures, targets], NaN where nothing was asked or
    the target is silent; ``absent_db`` is [mixtures, 1].
    """

    names: tuple[str, ...]
    label: np.ndarray
    scores: dict[str, Scores]
    skipped_silent: int


def make_separate_fn(
    separator: SeparatorFn,
    frontend: Frontend,
    length: int,
    mask_fn: Callable[..., Array] | None = None,
) -> Callable[..., tuple[Array, Array]]:
    """Build the jitted map from mixtures and queries to estimates.

    Args:
      separator: the network.
      frontend: analysis of the mixtures.
      length: of the mixtures, in samples.
      mask_fn: ``(key, proposal) -> mask``; None takes the mode, P itself.

    Returns:
      ``(params, model_state, mixture [b, t], query [b, k, d], key=None) ->
      estimate [b, k, t], mask [b, k, h, w]``.
    """
    reconstruct = make_reconstruct(frontend, length)

    @jax.jit
    def separate(
        params: Params,
        model_state: Params,
        mixture: Float[Array, "b t"],
        query: Float[Array, "b k d"],
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "b k t"], Float[Array, "b k h w"]]:
        features = frontend.analyse(mixture)
        logits, _ = separator(params, model_state, features.log_mag, query)
        mask = jax.nn.sigmoid(logits)
        if mask_fn is not None:
            mask = mask_fn(key, mask)
        return reconstruct(mask, features.stft), mask

    return separate


def evaluate_mixtures(
    separate_fn: SeparateFn,
    judge_fn: JudgeFn | None,
    mixtures: Iterable[EvaluationMixture],
    *,
    kinds: Sequence[str] = KINDS,
    batch_size: int = BATCH_SIZE,
    bss: int | None = None,
    more_judges: Mapping[str, JudgeFn] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Separate mixtures by every kind of query and score the estimates.

    Metrics, per target: ``si_sdr_db``, ``si_sdri_db``, ``sdr_db``, ``sdri_db``
    (the plain SNR, which is BSS-eval's SDR of images), ``sir_db``, ``sar_db``;
    ``judge`` (log-probability of the target's class) and ``judge_accuracy``. Per
    mixture: ``absent_db``, the energy an absent class leaves against that of the
    right queries.

    Args:
      separate_fn: mixtures and queries -> estimates.
      judge_fn: waveforms -> class log-probabilities; None leaves the judge out.
      mixtures: equal lengths and numbers of targets.
      kinds: which of the mixtures' queries to use.
      batch_size: mixtures at once; the last batch is filled up, so that nothing
        compiles twice.
      bss: mixtures that SIR and SAR, which take most of the time, are computed
        for; the first ones, in whole batches. None takes all, 0 none.
      more_judges: further judges by name; their scores are ``judge_NAME`` and
        ``judge_NAME_accuracy``.
      on_batch: hears how many mixtures are done.

    Raises:
      ValueError: no mixtures, an unknown kind, or estimates that are not finite.
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise ValueError(f"queries is {unknown[0]!r}, expected {', '.join(KINDS)}")
    judges = {"judge": judge_fn} if judge_fn is not None else {}
    judges |= {f"judge_{name}": fn for name, fn in (more_judges or {}).items()}
    names: list[str] = []
    labels, parts = [], []
    source = iter(mixtures)
    while batch := list(itertools.islice(source, batch_size)):
        filled = batch + batch[-1:] * (batch_size - len(batch))
        ratios = bss is None or len(names) < bss
        scores = _score_batch(separate_fn, judges, filled, kinds, ratios)
        if bss and not ratios:
            scores = _without_ratios(scores, kinds)
        real = slice(len(batch))
        parts.append(jax.tree.map(lambda rows, real=real: rows[real], scores))
        names += [mixture.name for mixture in batch]
        labels += [mixture.label for mixture in batch]
        if on_batch is not None:
            on_batch(len(names))
    if not parts:
        raise ValueError("mixtures is empty, expected at least one")
    merged = jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
    return Evaluation(
        tuple(names),
        np.stack(labels),
        {kind: merged[kind] for kind in kinds},  # trees sort their keys
        int(np.sum(merged["silent"])),
    )


def _score_batch(
    separate_fn: SeparateFn,
    judges: Mapping[str, JudgeFn],
    batch: list[EvaluationMixture],
    kinds: Sequence[str],
    bss: bool,
) -> dict[str, Any]:
    target = jnp.asarray(np.stack([mixture.target for mixture in batch]))
    label = np.stack([mixture.label for mixture in batch])
    query = np.stack(
        [np.stack([mixture.queries[kind] for kind in kinds]) for mixture in batch]
    )
    dim = query.shape[-1]
    nothing = np.zeros(dim, query.dtype)
    absent = np.stack([nothing if m.absent is None else m.absent for m in batch])
    flat = np.concatenate([query.reshape(len(batch), -1, dim), absent[:, None]], axis=1)
    found = separate_fn(target.sum(axis=1), jnp.asarray(flat))
    if not bool(jnp.isfinite(found).all()):
        raise ValueError("estimates hold NaN or infinite samples, expected finite ones")
    scored = slice(batch[0].scored_samples)
    target, found = target[..., scored], found[..., scored]
    estimate = found[:, :-1].reshape(*query.shape[:3], -1)
    metrics = jax.tree.map(np.array, _measure(estimate, target, bss))
    for name, judge_fn in judges.items():
        metrics |= _judge(name, judge_fn(estimate), label)
    left = np.array(_energy_left_db(found[:, -1], estimate, target))
    silent = np.asarray(jnp.max(jnp.abs(target), axis=-1) == 0)
    asked = np.any(query, axis=-1) & ~silent[:, None]
    scores: dict[str, Any] = {"silent": silent}
    for index, kind in enumerate(kinds):
        scores[kind] = {
            name: np.where(asked[:, index], value[:, index], np.nan)
            for name, value in metrics.items()
        }
        if kind == ABSENT_KIND and np.any(absent):
            left_here = np.where(np.any(absent, axis=-1), left[:, index], np.nan)
            scores[kind]["absent_db"] = left_here[:, None]
    return scores


def _without_ratios(scores: dict[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    """Say of a batch that it has no SIR and SAR where other batches have them."""
    empty = {k: np.full_like(scores[k]["si_sdr_db"], np.nan) for k in kinds}
    more = {k: scores[k] | {"sir_db": v, "sar_db": v} for k, v in empty.items()}
    return scores | more


@partial(jax.jit, static_argnames="bss")
def _measure(
    estimate: Float[Array, "b q k t"], target: Float[Array, "b k t"], bss: bool
) -> dict[str, Float[Array, "b q k"]]:
    wanted = jnp.broadcast_to(target[:, None], estimate.shape)
    whole = target.sum(axis=1, keepdims=True)
    mixture = jnp.broadcast_to(whole[:, None], estimate.shape)
    metrics = {"si_sdr_db": si_sdr(estimate, wanted), "sdr_db": sdr(estimate, wanted)}
    metrics["si_sdri_db"] = metrics["si_sdr_db"] - si_sdr(mixture, wanted)
    metrics["sdri_db"] = metrics["sdr_db"] - sdr(mixture, wanted)
    if bss:
        ratios = bss_eval(estimate, wanted, variant="images")
        metrics |= {"sir_db": ratios.sir, "sar_db": ratios.sar}
    return metrics


def _judge(name: str, log_prob: Array, label: np.ndarray) -> dict[str, np.ndarray]:
    values = np.asarray(log_prob)
    index = np.broadcast_to(label[:, None], values.shape[:-1])
    picked = np.take_along_axis(values, index[..., None], axis=-1)[..., 0]
    picked = np.where(np.isneginf(picked), np.nan, picked)  # a class it cannot name
    hit = np.where(np.isnan(picked), np.nan, values.argmax(axis=-1) == index)
    return {name: picked, f"{name}_accuracy": hit.astype(values.dtype)}


@jax.jit
def _energy_left_db(
    absent: Float[Array, "b t"],
    estimate: Float[Array, "b q k t"],
    target: Float[Array, "b k t"],
) -> Float[Array, "b q"]:
    floor = ENERGY_FLOOR * jnp.sum(target.sum(axis=1) ** 2, axis=-1)[:, None]
    tiny = jnp.finfo(target.dtype).tiny
    left = jnp.sum(absent**2, axis=-1)[:, None]
    right = jnp.mean(jnp.sum(estimate**2, axis=-1), axis=-1)
    ratio = jnp.maximum(left, floor + tiny) / jnp.maximum(right, floor + tiny)
    return 10 * jnp.log10(ratio)
