"""How well a separator does on fixed mixtures, query kind by query kind.

Scores are kept item by item, so that two models can be compared on the same
mixtures. The two targets of a mixture are not independent: intervals are taken
over mixtures, of the mean over a mixture's targets.
"""

from marssep_jax.evaluation.baselines import BASELINES
from marssep_jax.evaluation.measures import (
    Batch,
    JudgeFn,
    Scorer,
    class_scorer,
    measure,
    require_finite,
)
from marssep_jax.evaluation.scoring import (
    ABSENT_KIND,
    ALL_KINDS,
    BATCH_SIZE,
    KINDS,
    NEGATIVE_KIND,
    Evaluation,
    EvaluationMixture,
    evaluate_mixtures,
    make_separate_fn,
    separate_asked,
    stack_queries,
)
from marssep_jax.evaluation.summary import (
    as_metrics,
    compare,
    items,
    pair_scores,
    per_mixture,
    summarise,
)

__all__ = [
    "ABSENT_KIND",
    "ALL_KINDS",
    "BASELINES",
    "BATCH_SIZE",
    "KINDS",
    "NEGATIVE_KIND",
    "Batch",
    "Evaluation",
    "EvaluationMixture",
    "JudgeFn",
    "Scorer",
    "as_metrics",
    "class_scorer",
    "compare",
    "evaluate_mixtures",
    "items",
    "make_separate_fn",
    "measure",
    "pair_scores",
    "per_mixture",
    "require_finite",
    "separate_asked",
    "stack_queries",
    "summarise",
]
