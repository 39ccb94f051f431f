"""The quickstart's stages, as the grids that vary them share them.

Two scales. ``full`` are the quickstart's own lengths. ``small`` is for two cores: an
encoder that is half aligned and a base of a third of the steps, so that only
comparisons within a grid mean something. Nothing stops by the clock, which would make
results depend on the machine, and nothing stops early, so that variants of one grid
take equal steps.
"""

from collections.abc import Mapping
from typing import Any

from experiments.ablation.grid import Metric, Stage

CONFIG = "experiments/configs/quickstart.py"
Overrides = Mapping[str, Any]

_STEADY = {"training.max_wall_s": 0.0, "training.tensorboard": False}
_SCALES: dict[str, dict[str, dict[str, Any]]] = {
    "full": {
        "listeners": {},
        "base": {},
        "rl": {},
        "scores": {"test.num_mixtures": 0, "test.num_ratios": 208},
    },
    "small": {
        "listeners": {
            "align.num_steps": (100, 30, 90),
            "judge_training.num_steps": 200,
        },
        "base": {
            "training.num_steps": 600,
            "training.eval_every": 0,
            "optimiser.decay_steps": 550,
        },
        "rl": {
            "training.num_steps": 100,
            "training.eval_every": 0,
            "optimiser.decay_steps": 100,
        },
        "scores": {"test.num_mixtures": 200},
    },
}


def lengths(scale: str, stage: str) -> dict[str, Any]:
    """Return what a scale changes in one of the stages.

    Raises:
      ValueError: an unknown scale.
    """
    if scale not in _SCALES:
        raise ValueError(f"scale is {scale!r}, expected {' or '.join(_SCALES)}")
    steady = {} if stage == "scores" else _STEADY
    return {**steady, **_SCALES[scale][stage]}


def listeners(scale: str, name: str = "listeners", *, per_seed: bool = True) -> Stage:
    """Return the alignment of the encoder, and the judge."""
    changes = lengths(scale, "listeners")
    return Stage(name, "align", CONFIG, "supervised", changes, per_seed=per_seed)


def base(scale: str, encoder: str = "listeners", *, per_seed: bool = True) -> Stage:
    """Return the supervised separator."""
    start = {"encoder": encoder}
    changes = lengths(scale, "base")
    return Stage("base", "train", CONFIG, "supervised", changes, start, per_seed)


def policy(scale: str, encoder: str = "listeners") -> Stage:
    """Return the policy stage by the score function.

    Args:
      scale: full or small.
      encoder: names what the reward listens with.
    """
    changes = {**lengths(scale, "rl"), "training.patience": 0}
    start = {"encoder": encoder, "separator": "base"}
    return Stage("rl", "train", CONFIG, "score", changes, start)


def scores(
    scale: str,
    model: str = "rl",
    *,
    judge: str = "listeners",
    name: str = "scores",
    changes: Overrides | None = None,
) -> Stage:
    """Return the evaluation of a stage's model."""
    start = {"model": model, "judge": judge}
    test = {**lengths(scale, "scores"), **(changes or {})}
    return Stage(name, "evaluate", CONFIG, "score", test, start)


def quality(stage: str = "scores", suffix: str = "") -> tuple[Metric, ...]:
    """Return the columns on how well a model separates when it is asked in words."""
    return (
        Metric(f"SI-SDRi, dB{suffix}", stage, "text/si_sdri_db"),
        Metric(f"SDR, dB{suffix}", stage, "text/sdr_db"),
        Metric(f"judge{suffix}", stage, "text/judge", 3),
    )


def cost(stage: str = "rl") -> tuple[Metric, ...]:
    """Return the columns on what a stage costs."""
    return (
        Metric("s a step", stage, "s_per_step", 3),
        Metric("peak, MB", stage, "peak_mb", 0),
    )
