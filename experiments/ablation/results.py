"""What the runs of a grid show: means over seeds, and paired differences.

Two kinds of chance are told apart. The interval over seeds (Student's t) says how far
another training might end elsewhere. The interval over mixtures (bootstrap, of the
mean over the seeds at hand) says how far other test mixtures might.
"""

import math
import pathlib
from typing import Any, NamedTuple

import numpy as np

from experiments.ablation.grid import Grid, Metric, Variant
from experiments.ablation.plan import Plan
from experiments.ablation.workers import read_record
from marssep_jax.statistics import bootstrap_ci, t_ci

BOOTSTRAP_SEED = 0
Records = dict[str, dict[str, Any]]


class Value(NamedTuple):
    """A metric of one run; ``rows`` are those of the mixtures that ``of`` names."""

    key: str
    number: float
    rows: np.ndarray | None
    of: str


def read_records(plan: Plan, runs: pathlib.Path) -> Records:
    """Read what has ended."""
    found = {key: read_record(runs, key) for key in plan.tasks}
    return {key: record for key, record in found.items() if record is not None}


def summarise(
    grid: Grid, plan: Plan, records: Records, failed: dict[str, str]
) -> list[dict[str, Any]]:
    """Return a record for each variant.

    Args:
      grid: the grid.
      plan: of `make_plan`.
      records: of `read_records`.
      failed: why tasks failed, by key.

    Returns:
      ``name``, ``overrides``, ``runs`` (seed -> stage -> key), ``metrics`` (label ->
      ``mean``, ``ci95`` over seeds or None, ``values`` by seed), ``difference`` (label
      -> the same and ``to``, ``ci95_mixtures``) and ``failed`` (key -> why).
    """
    return [_summarise(v, grid, plan, records, failed) for v in grid.variants]


def _summarise(
    variant: Variant, grid: Grid, plan: Plan, records: Records, failed: dict[str, str]
) -> dict[str, Any]:
    other = variant.reference or grid.reference
    cells = {seed: plan.cells[variant.name, seed] for seed in grid.seeds}
    asked = {key for cell in cells.values() for key in cell.values()}
    metrics, difference = {}, {}
    for metric in grid.metrics:
        own = values_of(metric, variant.name, grid, plan, records)
        if not own:
            continue
        metrics[metric.label] = _mean(own)
        if other != variant.name:
            pair = _difference(own, values_of(metric, other, grid, plan, records))
            if pair:
                difference[metric.label] = {"to": other, **pair}
    return {
        "name": variant.name,
        "overrides": dict(variant.overrides),
        "runs": {str(seed): cell for seed, cell in cells.items()},
        "metrics": metrics,
        "difference": difference,
        "failed": {key: why for key, why in failed.items() if key in asked},
    }


def values_of(
    metric: Metric, variant: str, grid: Grid, plan: Plan, records: Records
) -> dict[int, Value]:
    """Return a metric of a variant by seed, where it was measured."""
    found = {}
    for seed in grid.seeds:
        key = plan.cells[variant, seed][metric.stage]
        record = records.get(key, {})
        number = record.get("metrics", {}).get(metric.key)
        if number is None or not math.isfinite(number):
            continue
        rows = record.get("per_mixture", {}).get(metric.key)
        array = None if rows is None else np.asarray(rows, dtype=float)
        found[seed] = Value(key, float(number), array, record.get("mixtures", ""))
    return found


def _mean(values: dict[int, Value]) -> dict[str, Any]:
    numbers = {value.key: value.number for value in values.values()}
    return _described(
        {str(s): v.number for s, v in values.items()}, [*numbers.values()]
    )


def _described(by_seed: dict[str, float], apart: list[float]) -> dict[str, Any]:
    """Return mean and interval; a run that seeds share counts once."""
    interval = t_ci(apart)
    return {
        "mean": float(np.mean(apart)),
        "ci95": None if interval is None else list(interval),
        "runs": len(apart),
        "values": by_seed,
    }


def _difference(own: dict[int, Value], other: dict[int, Value]) -> dict[str, Any]:
    """Return the mean of own - other over the seeds that have a run of either."""
    pairs = {
        seed: (own[seed], other[seed])
        for seed in own
        if seed in other and own[seed].key != other[seed].key
    }
    if not pairs:
        return {}
    apart = {(a.key, b.key): a.number - b.number for a, b in pairs.values()}
    by_seed = {str(seed): a.number - b.number for seed, (a, b) in pairs.items()}
    return _described(by_seed, [*apart.values()]) | {
        "ci95_mixtures": _over_mixtures([*pairs.values()])
    }


def _over_mixtures(pairs: list[tuple[Value, Value]]) -> list[float] | None:
    """Return the interval over mixtures; None where the two heard other ones."""
    if any(a.rows is None or b.rows is None or a.of != b.of for a, b in pairs):
        return None
    # None of them is None, which the checker does not see through ``any``.
    rows = np.mean([a.rows - b.rows for a, b in pairs], axis=0)  # type: ignore[operator]
    rows = rows[np.isfinite(rows)]
    return list(bootstrap_ci(rows, BOOTSTRAP_SEED)) if rows.size else None
