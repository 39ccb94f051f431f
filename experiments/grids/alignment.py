"""What each alignment stage of the reward's encoder is worth.

Commands:   python -m experiments.ablate --grid=experiments/grids/alignment.py:encoder \
                --workdir=runs/alignment_encoder
            python -m experiments.ablate --grid=experiments/grids/alignment.py:small \
                --workdir=runs/alignment
Time:       encoder: 12 alignments, half an hour on two cores. small, full: a policy
            stage and an evaluation besides, and a base for every seed; not run yet.
Shows:      experiments/ABLATIONS.md, stages of the alignment.

"one step" trains all losses at once for as many steps as the three stages together.
Query encoder and base are those of the full alignment: what differs is the reward.
"""

import dataclasses
from typing import Any

from experiments.ablation.grid import Grid, Metric, Variant
from experiments.grids import parts
from experiments.settings import AlignConfig

Changes = dict[str, dict[str, Any]]


def variants(scale: str) -> Changes:
    """Return what each variant changes of the alignment; all take equal steps."""
    length = parts.lengths(scale, "listeners")
    first, second, third = length.get("align.num_steps", AlignConfig().num_steps)
    changes: Changes = {
        "three stages": {},
        "one step": {"align.schedule": "joint"},
        "no stage 2": {"align.num_steps": (first + second, 0, third)},
        "no mixing": {"align_loss.mixing": (0.0, 0.0, 0.0)},
    }
    return {
        name: {f"rewarder:{key}": value for key, value in change.items()}
        for name, change in changes.items()
    }


SIDES = {"text": "words", "audio": "clips", "image": "pictures"}


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; scale is full, small, or encoder for the alignment alone."""
    alone = scale == "encoder"
    length = "small" if alone else scale
    aligned = parts.listeners(length, "rewarder")
    if alone:
        aligned = dataclasses.replace(
            aligned, overrides={**aligned.overrides, "judge_training.num_steps": 1}
        )
    heard = tuple(
        Metric(f"{label}, {name}", "rewarder", f"eval/{side}_{key}", 3)
        for side, name in SIDES.items()
        for label, key in (
            ("gap", "gap"),
            ("R@1 to", "recall_at_1"),
            ("R@1 from", "recall_at_1_back"),
        )
    )
    mixture = Metric("target-mixture gap", "rewarder", "eval/mixture_gap", 3)
    separated = (
        parts.listeners(length),
        parts.base(length),
        aligned,
        parts.policy(length, "rewarder"),
        parts.scores(length),
    )
    gaps = tuple(metric.label for metric in (*heard, mixture) if "gap" in metric.label)
    return Grid(
        title="Stages of the alignment",
        stages=(aligned,) if alone else separated,
        variants=tuple(Variant(*variant) for variant in variants(length).items()),
        reference="three stages",
        metrics=(*(() if alone else parts.quality()), *heard, mixture),
        plot=gaps if alone else ("SI-SDRi, dB", "judge", *gaps),
    )
