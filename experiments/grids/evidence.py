"""Reinforcement against the supervised base trained on for the same wall time.

Command:    python -m experiments.ablate --grid=experiments/grids/evidence.py \
                --workdir=runs/evidence
Needs:      make judges
Time:       on one quiet core 10 minutes for each of the three bases, 1.5 to 3.5 for
            each of the 15 seeds of a variant, the longer where aiSFX listens too.
Shows:      experiments/RL.md.

Three supervised bases, five seeds each: seeds 0 to 4 start from the first base, 5 to 9
from the second, 10 to 14 from the third. The baseline is the base trained on for as
long, on the same mixtures. Its steps are as many as take no less time than those of
the slowest variant; so the comparison does not hang on what else a machine does. On one
core a policy step takes 2.0 (score, eight masks of eight mixtures) and 2.2 times
(pathwise, one mask of twelve mixtures, heard as a waveform) the 0.2 s of a supervised
step of twelve mixtures.
"""

import dataclasses
from typing import Any

from experiments.ablation.grid import Grid, Metric, Overrides, Variant
from experiments.grids import alignment, parts
from marssep_jax import presets
from marssep_jax.config import to_dict

SEEDS_A_BASE, NUM_BASES = 5, 3

TEST = {"test.num_mixtures": 500, "test.num_ratios": 500}
"""Once on ordinary mixtures, once on those of one family, which are hard."""

CONTINUED = {
    "rl:stage": "supervised",
    "rl:name": "continued",
    "rl:training.batch_size": 12,
    "rl:optimiser.learning_rate": 2e-4,
}
"""As the base was trained, at the rate of the policy stage and as quiet at the end."""

PATHWISE = {
    **{f"rl.{name}": value for name, value in to_dict(presets.PATHWISE).items()},
    "rl:training.batch_size": 12,
    "rl:optimiser.learning_rate": 2e-4,
}
"""The preset: the reward's own derivative beside the supervised loss."""

CONTROL_VARIATE = {
    "rl.estimator": "control_variate",
    "rl.group_size": 4,
    "rl.advantage": "centred",
    "rl.gain_coef": 0.3,
    "rl.supervised_coef": 1.0,
    "rl.kl_ref_coef": 0.0,
    "rl.kl_old_coef": 0.0,
}
"""The score function of the rest beside the derivative of the linear part."""


def _lasting(steps: int, changes: Overrides) -> Overrides:
    """Return the settings of a variant of so many steps; rates fall along with it."""
    length = {"rl:training.num_steps": steps, "rl:optimiser.decay_steps": steps}
    return {**length, **changes}


def _pathwise(**changes: Any) -> Overrides:
    return _lasting(110, {**PATHWISE, **{f"rl.{k}": v for k, v in changes.items()}})


AISFX = {"scores:test.judges": ("own", "aisfx")}
"""Asks a judge that others trained too; it takes 0.1 s of a core a clip."""

PRESENT, ABSENT = {"rl:data.num_absent": 0}, {"rl:data.num_absent": 1}
VARIANTS = (
    Variant("continued", _lasting(250, {**CONTINUED, **ABSENT})),
    Variant(
        "continued, all queries present",
        {**_lasting(250, {**CONTINUED, **PRESENT}), **AISFX},
    ),
    Variant("score", _lasting(125, {})),
    Variant("control variate", _lasting(145, CONTROL_VARIATE)),
    Variant("pathwise", {**_pathwise(), **AISFX}),
    Variant(
        "pathwise, signal alone",
        _pathwise(reward="si_sdr", signal_coef=0.0),
        "pathwise",
    ),
    Variant("pathwise, meaning alone", _pathwise(signal_coef=0.0)),
    Variant("pathwise, absent queries too", {**_pathwise(), **ABSENT}, "continued"),
)
"""In seconds, none takes longer than the baselines.

The policy stage's mixtures have no query for an absent class. The baseline has none
either, so that what the queries do is not taken for what the reward does; "continued"
goes on as the base was trained, with one query in three for an absent class.
"""


def _quality(stage: str, suffix: str) -> tuple[Metric, ...]:
    return (
        *parts.quality(stage, suffix),
        Metric(f"SIR, dB{suffix}", stage, "text/sir_db"),
        Metric(f"SAR, dB{suffix}", stage, "text/sar_db"),
        Metric(f"accuracy{suffix}", stage, "text/judge_accuracy", 3),
        Metric(f"margin{suffix}", stage, "text/judge_margin", 3),
    )


OTHERS = (
    Metric("aiSFX", "scores", "text/judge_aisfx", 3),
    Metric("aiSFX's accuracy", "scores", "text/judge_aisfx_accuracy", 3),
    Metric("aiSFX's margin", "scores", "text/judge_aisfx_margin", 3),
)


def _no_stage_2(scale: str) -> Variant:
    """Return the preset with a reward whose encoder skipped a stage of the alignment.

    Queries stay those of the full one.
    """
    skipped = alignment.variants(scale)["no stage 2"]
    return Variant("pathwise, no stage 2", {**_pathwise(), **skipped}, "pathwise")


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; scale is full or small."""
    base = parts.base(scale, "listeners", per_seed=True)
    policy = parts.policy(scale, "rewarder")
    alone = {**policy.overrides, "training.eval_every": 0}
    stages = (
        parts.listeners(scale, per_seed=False),
        parts.listeners(scale, "rewarder", per_seed=False),
        dataclasses.replace(base, shared_by=SEEDS_A_BASE),
        dataclasses.replace(policy, overrides=alone),
        parts.scores(scale, changes=TEST),
        parts.scores(scale, name="family", changes={**TEST, "test.same_family": True}),
    )
    return Grid(
        title="Reinforcement against as much supervised training",
        stages=stages,
        variants=(*VARIANTS, _no_stage_2(scale)),
        reference="continued, all queries present",
        seeds=tuple(range(SEEDS_A_BASE * NUM_BASES)),
        metrics=(
            *_quality("scores", ""),
            *OTHERS,
            *_quality("family", ", family"),
            Metric("steps", "rl", "steps", 0),
            Metric("s", "rl", "train_s", 0),
        ),
        plot=("SI-SDRi, dB", "judge", "accuracy"),
    )
