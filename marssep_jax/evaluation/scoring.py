"""Scores of every target of every mixture, by kind of query.

Every mixture passes the network once, with the queries of all kinds side by side.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from marssep_jax import interrupts
from marssep_jax.evaluation.measures import (
    Batch,
    JudgeFn,
    Scorer,
    class_scorer,
    measure,
    require_finite,
)
from marssep_jax.features import Frontend
from marssep_jax.reconstruct import make_reconstruct
from marssep_jax.types import Params, SeparatorFn

BATCH_SIZE = 16
"""Mixtures at once."""

KINDS = ("text", "audio", "image", "composed")
NEGATIVE_KIND = "negative"
"""Words for the target less words for the mixture's other sources; asked on demand."""
ALL_KINDS = (*KINDS, NEGATIVE_KIND)
ABSENT_KIND = "text"
"""Absent classes are asked for in words."""

ENERGY_FLOOR = 1e-10
"""Of the mixture's energy: an estimate that is all zeros counts as -100 dB of it."""

SeparateFn = Callable[
    [Float[Array, "b t"], Float[Array, "b k d"]], Float[Array, "b k t"]
]
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
    ``judge`` (log-probability of the target's class), ``judge_accuracy`` and
    ``judge_margin`` (`marssep_jax.evaluation.class_scorer`). Per mixture:
    ``absent_db``, the energy an absent class leaves against that of the right
    queries.

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
        ``judge_NAME_accuracy`` and ``judge_NAME_margin``.
      on_batch: hears how many mixtures are done.

    Raises:
      ValueError: no mixtures, an unknown kind, or estimates that are not finite.
    """
    if unknown := sorted(set(kinds) - set(ALL_KINDS)):
        raise ValueError(f"queries is {unknown[0]!r}, expected {', '.join(ALL_KINDS)}")
    judges = {"judge": judge_fn} if judge_fn is not None else {}
    judges |= {f"judge_{name}": fn for name, fn in (more_judges or {}).items()}
    scorers = [class_scorer(name, fn) for name, fn in judges.items()]
    names: list[str] = []
    labels, parts = [], []
    source = iter(mixtures)
    while batch := list(itertools.islice(source, batch_size)):
        interrupts.check()
        filled = batch + batch[-1:] * (batch_size - len(batch))
        ratios = bss is None or len(names) < bss
        scores = _score_batch(separate_fn, scorers, filled, kinds, ratios)
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
    scorers: Sequence[Scorer],
    mixtures: list[EvaluationMixture],
    kinds: Sequence[str],
    bss: bool,
) -> dict[str, Any]:
    scored = mixtures[0].scored_samples
    target = np.stack([mixture.target for mixture in mixtures])
    label = np.stack([mixture.label for mixture in mixtures])
    query, absent = stack_queries([(m.queries, m.absent) for m in mixtures], kinds)
    estimate, left = separate_asked(
        separate_fn, jnp.asarray(target), query, absent, scored_samples=scored
    )
    require_finite(estimate)
    target = target[..., :scored]
    batch = Batch(jnp.asarray(target), label)
    metrics = jax.tree.map(np.array, measure(estimate, batch, scorers, bss=bss))
    silent = np.max(np.abs(target), axis=-1) == 0
    asked = np.any(query, axis=-1) & ~silent[:, None]
    scores: dict[str, Any] = {"silent": silent}
    for index, kind in enumerate(kinds):
        scores[kind] = {
            name: np.where(asked[:, index], value[:, index], np.nan)
            for name, value in metrics.items()
        }
        if kind == ABSENT_KIND and np.any(absent):
            here = np.any(absent, axis=-1)
            left_here = np.where(here, np.asarray(left)[:, index], np.nan)
            scores[kind]["absent_db"] = left_here[:, None]
    return scores


Asked = tuple[Mapping[str, np.ndarray], np.ndarray | None]


def stack_queries(
    asked: Sequence[Asked], kinds: Sequence[str]
) -> tuple[Float[np.ndarray, "b q k d"], Float[np.ndarray, "b d"]]:
    """Lay queries by kind, and queries for absent classes, side by side.

    Args:
      asked: the queries of each mixture and the one for an absent class, if any.
      kinds: which of them to take.

    Returns:
      Queries, and those for absent classes; zeros where nothing is asked.
    """
    query = np.stack([np.stack([own[kind] for kind in kinds]) for own, _ in asked])
    nothing = np.zeros(query.shape[-1], query.dtype)
    absent = np.stack([nothing if row is None else row for _, row in asked])
    return query, absent


def separate_asked(
    separate_fn: SeparateFn,
    target: Float[Array, "b k t"],
    query: Float[np.ndarray, "b q k d"],
    absent: Float[np.ndarray, "b d"],
    *,
    scored_samples: int | None = None,
) -> tuple[Float[Array, "b q k t"], Float[Array, "b q"]]:
    """Separate by every query in one pass.

    Returns:
      Estimates, cut to the samples that are scored, and what the absent class leaves
      in dB of the right queries.
    """
    num, dim = len(query), query.shape[-1]
    flat = np.concatenate([query.reshape(num, -1, dim), absent[:, None]], axis=1)
    found = separate_fn(target.sum(axis=1), jnp.asarray(flat))
    found, target = found[..., :scored_samples], target[..., :scored_samples]
    estimate = found[:, :-1].reshape(*query.shape[:3], -1)
    return estimate, _energy_left_db(found[:, -1], estimate, target)


def _without_ratios(scores: dict[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    """Say of a batch that it has no SIR and SAR where other batches have them."""
    empty = {k: np.full_like(scores[k]["si_sdr_db"], np.nan) for k in kinds}
    more = {k: scores[k] | {"sir_db": v, "sar_db": v} for k, v in empty.items()}
    return scores | more


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
