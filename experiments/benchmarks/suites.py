"""Which suites there are, and what becomes of one that lacks a package."""

import importlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

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
    "roofline": "roofline",
}
"""Suite to its module here: ``NAMES`` of its rows, ``measure(tiny)`` for them."""

QUICK = "quick"
GUARDED = ("sampler", "update", "metrics", "preprocess")
"""What the suite ``quick`` stands for: those whose references run on the same machine.

What is held against the clock, as separation is, changes with what else runs there.
"""

KEPT_REPORT = pathlib.Path(__file__).parents[1] / "results" / "benchmark.json"


def expand(asked: Sequence[str]) -> list[str]:
    """Return the suites that are asked for, each once.

    Raises:
      ValueError: none, or one that there is not.
    """
    if not asked or set(asked) - {*SUITES, QUICK}:
        known = ", ".join((QUICK, *SUITES))
        raise ValueError(f"suite is {','.join(asked)!r}, expected some of {known}")
    named = [GUARDED if suite == QUICK else (suite,) for suite in asked]
    return list(dict.fromkeys(suite for group in named for suite in group))


def measure_suite(suite: str, *, tiny: bool, **options: Any) -> list[Row]:
    """Return the rows of a suite, in the order of their names.

    Args:
      suite: one of ``SUITES``.
      tiny: sizes for tests.
      options: of the suite's own.
    """
    module = importlib.import_module(f"experiments.benchmarks.{SUITES[suite]}")
    rows = or_not_measured(module.NAMES, lambda: module.measure(tiny, **options))
    if tiny:  # such sizes say nothing about targets
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
