"""From scores to means, intervals and differences."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from marssep_jax.evaluation.scoring import Evaluation, Scores
from marssep_jax.statistics import bootstrap_ci, paired_bootstrap_ci, wilcoxon_p

BOOTSTRAP_SEED = 0


def per_mixture(values: np.ndarray) -> np.ndarray:
    """Average [mixtures, targets] over the scored targets; NaN where none is."""
    scored = np.isfinite(values)
    count = scored.sum(axis=1)
    total = np.where(scored, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def summarise(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Return means with 95 % intervals, in the layout of ``summary.json``.

    A kind that could not be asked anywhere is left out. ``n`` counts targets.
    """
    return {
        kind: _summarise_kind(scores, evaluation.skipped_silent)
        for kind, scores in evaluation.scores.items()
        if np.isfinite(scores["si_sdr_db"]).any()
    }


def _summarise_kind(scores: Scores, skipped_silent: int) -> dict[str, Any]:
    record: dict[str, Any] = {}
    intervals = {}
    for name, values in scores.items():
        means = per_mixture(values)
        means = means[np.isfinite(means)]
        if means.size:
            record[name] = float(means.mean())
            intervals[name] = list(bootstrap_ci(means, BOOTSTRAP_SEED))
    scored = np.isfinite(scores["si_sdr_db"])
    return record | {
        "n": int(scored.sum()),
        "num_mixtures": int(scored.any(axis=1).sum()),
        "skipped_silent": skipped_silent,
        "ci95": intervals,
    }


def compare(first: Evaluation, second: Evaluation) -> dict[str, dict[str, Any]]:
    """Return mean differences first - second with paired 95 % intervals.

    Returns:
      `pair_scores` by kind, over the mixtures that both have scores of.

    Raises:
      ValueError: evaluations of other mixtures.
    """
    if first.names != second.names or not np.array_equal(first.label, second.label):
        raise ValueError(
            f"second has {len(second.names)} mixtures, expected the same "
            f"{len(first.names)} as first"
        )
    return {
        kind: pair_scores(scores, second.scores[kind])
        for kind, scores in first.scores.items()
        if kind in second.scores and np.isfinite(scores["si_sdr_db"]).any()
    }


def pair_scores(first: Scores, second: Scores) -> dict[str, dict[str, Any]]:
    """Compare scores of the same mixtures, metric by metric.

    Returns:
      ``{metric: {"mean", "ci95": [low, high], "num_mixtures", "wilcoxon_p",
      "share_higher"}}``: mean of first - second, its paired bootstrap interval, the
      mixtures that both have scores of, Wilcoxon's two-sided p-value (of one test,
      not corrected for how many there are), and the share of mixtures that first
      has more on.
    """
    return {
        name: pair
        for name, values in first.items()
        if name in second and (pair := _pair(values, second[name]))
    }


def _pair(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    a, b = per_mixture(first), per_mixture(second)
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return {}
    a, b = a[both], b[both]
    return {
        "mean": float(np.mean(a - b)),
        "ci95": list(paired_bootstrap_ci(a, b, BOOTSTRAP_SEED)),
        "num_mixtures": int(both.sum()),
        "wilcoxon_p": wilcoxon_p(a, b),
        "share_higher": float(np.mean(a > b)),
    }


def items(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Yield one record per scored target: kind, mixture, target, label, metrics."""
    for kind, scores in evaluation.scores.items():
        targets = {n: v for n, v in scores.items() if n != "absent_db"}
        for row, target in np.argwhere(np.isfinite(scores["si_sdr_db"])):
            yield {
                "kind": kind,
                "mixture": evaluation.names[row],
                "target": int(target),
                "label": int(evaluation.label[row, target]),
                **{name: float(v[row, target]) for name, v in targets.items()},
            }


def as_metrics(evaluation: Evaluation, kind: str = "text") -> dict[str, float]:
    """Return one kind's means as ``eval/...`` metrics for the training loop."""
    means = {n: per_mixture(v) for n, v in evaluation.scores[kind].items()}
    return {
        f"eval/{name}": float(np.nanmean(value))
        for name, value in means.items()
        if np.isfinite(value).any()
    }
