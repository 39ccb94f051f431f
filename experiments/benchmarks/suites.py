"""Which suites there are, and what becomes of one that lacks a package."""

import importlib
from collections.abc import Callable

from experiments.benchmarks.rows import UNAVAILABLE, Row, not_measured, why_missing

SUITES = {
    "sampler": "sampler",
    "update": "updates",
    "separate": "separation",
    "files": "files",
    "metrics": "metrics",
    "preprocess": "preprocessing",
    "input": "input_pipeline",
    "encoder": "encoders",
    "startup": "startup",
}
"""Suite to its module here: ``NAMES`` of its rows, ``measure(quick)`` for them."""


def measure_suite(suite: str, *, quick: bool) -> list[Row]:
    """Return the rows of a suite, in the order of their names.

    Args:
      suite: one of ``SUITES``.
      quick: small sizes, for tests.
    """
    module = importlib.import_module(f"experiments.benchmarks.{SUITES[suite]}")
    rows = or_not_measured(module.NAMES, lambda: module.measure(quick))
    if quick:  # small sizes say nothing about targets
        for row in rows:
            row.pop("target", None)
            row.pop("reached", None)
    return rows


def or_not_measured(
    names: tuple[str, ...], measure: Callable[[], list[Row]]
) -> list[Row]:
    """Return what was measured, or for every name why it was not.

    Raises:
      ModuleNotFoundError: of this repository's own modules.
    """
    try:
        return measure()
    except UNAVAILABLE as error:
        reason = why_missing(error)
    return [not_measured(name, reason) for name in names]
