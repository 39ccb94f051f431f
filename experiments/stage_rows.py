"""How a stage ended, in a line and in a record."""

from typing import Any

from marssep_jax.training import TrainingResult
from marssep_jax.training.meters import COSTS


def describe(result: TrainingResult) -> str:
    """Say in a line how a stage ended."""
    last = result.rows[-1] if result.rows else {}
    scores = ", ".join(
        f"{name.removeprefix('eval/')} {value:.3f}"
        for name, value in last.items()
        if name.startswith("eval/") and isinstance(value, float)
    )
    stage = last.get("stage", "stage")
    return f"{stage}: {result.step} steps in {result.wall_s:.0f} s; {scores}"


def stage_rows(results: list[TrainingResult]) -> list[dict[str, Any]]:
    """Return name, time and last metrics of stages, as ``summary.json`` has them."""
    rows = []
    for result in results:
        last = result.rows[-1] if result.rows else {}
        metrics = {
            k: v for k, v in last.items() if "/" in k and not k.startswith(COSTS)
        }
        evaluated = {k: v for k, v in metrics.items() if k.startswith("eval/")}
        rows.append(
            {
                "name": last.get("stage", ""),
                "wall_s": result.wall_s,
                "metrics": evaluated | metrics,
            }
        )
    return rows
