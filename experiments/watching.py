"""What is watched of a policy stage: limits of the reward, and its exploitation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.placing import PlacedStage
from marssep_jax.types import MixtureBatch

Evaluate = Callable[[Any], dict[str, float]]
Rows = Sequence[Mapping[str, Any]]


def watch(
    validate: Evaluate | None, stage: PlacedStage, batch: MixtureBatch
) -> Evaluate | None:
    """Add what is watched of a policy stage, on one batch, to the validation."""
    watched = [probe for probe in (stage.limits, stage.probe) if probe is not None]
    if validate is None or not watched:
        return validate

    def evaluate(state: Any) -> dict[str, float]:
        found = validate(state)
        for probe in watched:
            found |= {name: float(value) for name, value in probe(state, batch).items()}
        return found

    return evaluate


def headroom(limits: Mapping[str, Any]) -> str:
    """Say before a policy stage what its reward can tell.

    Args:
      limits: of `marssep_jax.update.probe.make_limits`.
    """
    mixture, mode, ideal = (
        float(limits[f"reward/of_{name}"]) for name in ("mixture", "mode", "ideal")
    )
    text = (
        f"reward of the mixture {mixture:.3f}, of the start's masks {mode:.3f}, of "
        f"ideal masks {ideal:.3f}"
    )
    if ideal > max(mixture, mode):
        return text
    return f"warning: {text}: it does not prefer ideal masks and cannot teach them"


def exploitation(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Say that a reward was exploited: it rose while the judge's score fell.

    Args:
      rows: metric rows of a policy stage.
    """
    reward, judge = (  # a skipped update may have none
        [row[name] for row in rows if row.get(name) is not None]
        for name in ("reward/mean", "eval/judge")
    )
    third = len(reward) // 3  # single batches are too noisy to compare
    if not third or len(judge) < 2:
        return None
    first, last = np.mean(reward[:third]), np.mean(reward[-third:])
    if last <= first or judge[-1] >= judge[0]:
        return None
    return (
        f"the reward rose from {first:.3f} to {last:.3f} while the held-out judge "
        f"fell from {judge[0]:.3f} to {judge[-1]:.3f}: the reward is being exploited"
    )


def is_exploited(rows: Rows) -> bool:
    """Say whether a reward has been exploited for long enough to stop.

    The reward is above where it began, while at the last two evaluations both the
    held-out judge and SI-SDR were worse than at the first.

    Args:
      rows: metric rows of a stage so far; one without a reward is never exploited.
    """
    if exploitation(rows) is None:
        return False
    for name in ("eval/judge", "eval/si_sdri_db"):
        scores = [row[name] for row in rows if row.get(name) is not None]
        if len(scores) < 3 or max(scores[-2:]) >= scores[0]:
            return False
    return True
