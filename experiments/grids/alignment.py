"""What each alignment stage of the reward's encoder is worth.

Command:    python -m experiments.ablate --grid=experiments/grids/alignment.py:small \
                --workdir=runs/alignment
Time:       not run yet; for every variant and seed an alignment, a policy stage and an
            evaluation, and a base for every seed.
Shows:      nothing yet: it needs the settings below in `AlignConfig`.

"one step" trains all losses at once for as many steps as the three stages together.
Query encoder and base are those of the full alignment: what differs is the reward.
"""

from typing import Any

from experiments.ablation.grid import Grid, Metric, Variant
from experiments.grids import parts

CHANGES: dict[str, dict[str, Any]] = {
    "three stages": {},
    "one step": {"align.schedule": "joint"},
    "no stage 2": {"align.skip": (2,)},
    "no mixing": {"align.mixing": False},
}
"""Variant to what it changes of the alignment; the only place with these names."""

SIDES = {"text": "words", "audio": "clips", "image": "pictures"}


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; scale is full or small."""
    heard = tuple(
        Metric(f"{label}, {name}", "rewarder", f"eval/{side}_{key}", 3)
        for side, name in SIDES.items()
        for label, key in (
            ("gap", "gap"),
            ("R@1 to", "recall_at_1"),
            ("R@1 from", "recall_at_1_back"),
        )
    )
    return Grid(
        title="Stages of the alignment",
        stages=(
            parts.listeners(scale),
            parts.base(scale),
            parts.listeners(scale, "rewarder"),
            parts.policy(scale, "rewarder"),
            parts.scores(scale),
        ),
        variants=tuple(
            Variant(name, {f"rewarder:{key}": value for key, value in changes.items()})
            for name, changes in CHANGES.items()
        ),
        reference="three stages",
        metrics=(*parts.quality(), *heard),
        plot=("SI-SDRi, dB", "judge", "gap, words", "gap, clips", "gap, pictures"),
    )
