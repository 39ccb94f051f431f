"""Score the model of a run on test mixtures, mixture by mixture."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from experiments import judges
from marssep_jax.checks import at_least, one_of, require
from marssep_jax.config import MASKS


@dataclass(frozen=True)
class TestConfig:
    """The section ``test`` of an evaluating stage."""

    __test__ = False  # pytest

    split: str = ""  # empty: recordings that no stage saw, where there are any
    num_mixtures: int = 200  # the first of those prepared with the data; 0 takes all
    num_ratios: int = 0  # mixtures that SIR and SAR are computed for
    num_sources: int = 2
    same_family: bool = False  # sources of one family are hard to tell apart
    queries: tuple[str, ...] = ("text",)
    mask: str = "mode"
    judges: tuple[str, ...] = ("own",)  # of `experiments.judges`

    def __post_init__(self) -> None:
        """Check numbers and names."""
        at_least(self, 0, "num_mixtures", "num_ratios")
        at_least(self, 2, "num_sources")
        require(bool(self.queries), "queries", self.queries, "one or more")
        one_of(self, "mask", MASKS)
        judges.check_names(self.judges)


class Scores(NamedTuple):
    """Means and scores of each mixture, by ``kind/metric``; ``mixtures`` is a hash."""

    metrics: dict[str, float]
    per_mixture: dict[str, list[float | None]]
    mixtures: str


def score(
    settings: dict[str, Any], test: dict[str, Any], start: dict[str, str]
) -> Scores:
    """Score a model.

    Args:
      settings: resolved settings; data set and mask policy are read.
      test: of `TestConfig`.
      start: folders of the ``model`` and of the ``judge``; without one the model's
        own judges.

    Raises:
      ValueError: a model, a data set or queries that do not fit.
    """
    from experiments import compiled, scoring
    from experiments.datasets import open_data
    from experiments.settings import resolve
    from marssep_jax.bundle import load_bundle, resolve_bundle
    from marssep_jax.config import FrontendConfig, from_dict
    from marssep_jax.evaluation import per_mixture, summarise

    plan, resolved = from_dict(TestConfig, test), resolve(settings)
    others = judges.check_names(plan.judges)
    model = scoring.load_model(start["model"], "start.model")
    judge = model
    if "judge" in start:
        judge = load_bundle(resolve_bundle(start["judge"]))
    frontend = from_dict(FrontendConfig, model.config["frontend"])
    data = open_data(resolved.data, frontend, resolved.encoder.image_size)
    tests = scoring.draw_tests(
        data,
        plan.num_mixtures or resolved.data.num_test,
        num_samples=frontend.num_samples,
        num_sources=plan.num_sources,
        same_family=plan.same_family,
        split=plan.split,
    )
    chosen = tests.manifest["mixtures"][: plan.num_mixtures or None]
    tests = tests._replace(manifest=tests.manifest | {"mixtures": chosen})
    found = scoring.evaluate_model(
        model,
        scoring.model_mixtures(model, tests),
        compiled.bundle_judge(judge) if judges.OWN in plan.judges else None,
        kinds=plan.queries,
        bss=plan.num_ratios,
        mask=plan.mask,
        policy=resolved.policy,
        more_judges=judges.fit_judges(others, *tests.data),
    )
    metrics = {
        f"{kind}/{name}": float(value)
        for kind, summary in summarise(found).items()
        for name, value in summary.items()
        if isinstance(value, float)
    }
    rows = {
        f"{kind}/{name}": _plain(per_mixture(values))
        for kind, scores in found.scores.items()
        for name, values in scores.items()
    }
    names = json.dumps([entry["sha256"] for entry in chosen]).encode()
    return Scores(metrics, rows, hashlib.sha256(names).hexdigest())


def _plain(values: np.ndarray) -> list[float | None]:
    """Return numbers as JSON has them: what was not scored becomes None."""
    return [float(value) if np.isfinite(value) else None for value in values]
