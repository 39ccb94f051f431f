"""Rows of the report: a ratio against a reference, or why there is none."""

from collections.abc import Sequence
from typing import Any

from experiments.benchmarks.timing import Job, Timing, alternate

Row = dict[str, Any]


OURS = ("experiments", "marssep_jax", "data_pipelines")


class NotMeasuredError(Exception):
    """Why rows cannot be measured here; the others still are."""


UNAVAILABLE = (NotMeasuredError, ModuleNotFoundError)
"""What `why_missing` puts into words."""


def why_missing(error: Exception) -> str:
    """Return why something is not measured.

    Raises:
      ModuleNotFoundError: it is this repository's own module that is missing.
    """
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if name is None:
        return str(error)
    package = name.partition(".")[0]
    if package in OURS:
        raise error
    return f"{package} is not installed"


def ratio_row(
    name: str,
    ours: Timing,
    reference_name: str,
    reference: Timing,
    *,
    target: float | None = None,
    **more: Any,
) -> Row:
    """Return a row; seconds are those of the best round.

    Args:
      name: of the row.
      ours: timing of this package.
      reference_name: what it is compared with, in words.
      reference: its timing, of as many rounds.
      target: speedup that is aimed at; the row says whether it is reached.
      more: further fields.
    """
    pairs = zip(ours.seconds, reference.seconds, strict=True)
    speedups = [theirs / mine for mine, theirs in pairs]
    speedup = reference.best / ours.best
    row: Row = {
        "name": name,
        "ours_s": ours.best,
        "reference": reference_name,
        "reference_s": reference.best,
        "speedup": speedup,
        "runs": len(speedups),
        "min_max": [min(speedups), max(speedups)],
        "ours_median_s": ours.median,
        "reference_median_s": reference.median,
    }
    if target is not None:
        row |= {"target": target, "reached": speedup >= target}
    return row | more


def require_same(name: str, difference: float, largest: float, unit: str = "") -> None:
    """Check that two sides of a row compute the same, before they are timed.

    Raises:
      ValueError: they differ by more than the largest difference.
    """
    if not difference <= largest:  # NaN is no agreement
        raise ValueError(
            f"difference of {name} is {difference:.3g}{unit}, expected at most "
            f"{largest}: the two do not compute the same"
        )


def compared_row(
    name: str,
    ours: Job,
    reference: Job,
    credit: str,
    difference: float,
    *,
    largest: float,
    rounds: int,
) -> Row:
    """Time two sides that compute the same; at least as fast is the aim.

    Args:
      name: of the row.
      ours: this package's job.
      reference: the other one.
      credit: what it is, in words.
      difference: largest one of their values.
      largest: what is allowed.
      rounds: measured calls of each.

    Raises:
      ValueError: they do not compute the same.
    """
    require_same(name, difference, largest)
    times = alternate({"ours": ours, "reference": reference}, rounds)
    return ratio_row(
        name,
        times["ours"],
        credit,
        times["reference"],
        target=1.0,
        largest_difference=difference,
    )


def not_measured(name: str, reason: str) -> Row:
    """Return the row of what could not be measured."""
    return {"name": name, "not_measured": reason}


def table(rows: Sequence[Row]) -> str:
    """Lay rows out as text: seconds, speedup and its range, target, reference."""
    width = max(len(row["name"]) for row in rows)
    lines = [
        f"{'':{width}}  {'ours, s':>10} {'theirs, s':>10} {'speedup':>8}"
        f"  {'of single rounds':19} {'target':12} against"
    ]
    for row in rows:
        head = f"{row['name']:{width}}  "
        if "not_measured" in row:
            lines.append(f"{head}not measured: {row['not_measured']}")
            continue
        low, high = row["min_max"]
        verdict = ""
        if "target" in row:
            verdict = f"{row['target']:g} {'reached' if row['reached'] else 'missed'}"
        lines.append(
            f"{head}{row['ours_s']:10.4g} {row['reference_s']:10.4g} "
            f"{row['speedup']:8.3g}  {f'{low:.3g} to {high:.3g}':19} {verdict:12} "
            f"{row['reference']}"
        )
    return "\n".join(lines)
