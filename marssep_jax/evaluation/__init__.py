"""How well a separator does on fixed mixtures, query kind by query kind.

Scores are kept item by item, so that two models can be compared on the same
mixtures. The two targets of a mixture are not independent: intervals are taken
over mixtures, of the mean over a mixture's targets.
"""

from marssep_jax.evaluation.scoring import (
    BATCH_SIZE,
    KINDS,
    Evaluation,
    EvaluationMixture,
    evaluate_mixtures,
    make_separate_fn,
)
from marssep_jax.evaluation.summary import (
    as_metrics,
    compare,
    items,
    per_mixture,
    summarise,
)

__all__ = [
    "BATCH_SIZE",
    "KINDS",
    "Evaluation",
    "EvaluationMixture",
    "as_metrics",
    "compare",
    "evaluate_mixtures",
    "items",
    "make_separate_fn",
    "per_mixture",
    "summarise",
]
