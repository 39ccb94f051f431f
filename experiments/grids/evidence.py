"""Reinforcement against the supervised base trained on for the same wall time.

Command:    python -m experiments.ablate --grid=experiments/grids/evidence.py \
                --workdir=runs/evidence
Time:       on two quiet cores 5 minutes for each of the three bases, 2 for each of the
            15 seeds of a variant.
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

from experiments.ablation.grid import Grid, Metric, Variant
from experiments.grids import parts
from marssep_jax import presets
from marssep_jax.config import to_dict

NUM_STEPS = {
    "continued": 250,
    "continued, all queries present": 250,
    "score": 125,
    "control variate": 145,
    "pathwise": 110,
    "pathwise, signal alone": 110,
    "pathwise, meaning alone": 110,
    "pathwise, absent queries too": 110,
}
"""Of each variant: in seconds, none takes longer than the baselines.

The policy stage's mixtures have no query for an absent class. The baseline has none
either, so that what the queries do is not taken for what the reward does; "continued"
goes on as the base was trained, with one query in three for an absent class.
"""

BASELINES = {"pathwise, absent queries too": "continued"}
"""What a variant is compared with, where it is not the grid's reference."""

SEEDS_A_BASE, NUM_BASES = 5, 3

TEST = {"test.num_mixtures": 500, "test.num_ratios": 500}
"""Once on ordinary mixtures, once on those of one family, which are hard."""

CONTINUED = {
    "rl:stage": "supervised",
    "rl:name": "continued",
    "rl:training.batch_size": 12,
    "rl:data.num_absent": 1,
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

VARIANTS = {
    "continued": CONTINUED,
    "continued, all queries present": {**CONTINUED, "rl:data.num_absent": 0},
    "score": {},
    "control variate": CONTROL_VARIATE,
    "pathwise": PATHWISE,
    "pathwise, signal alone": {
        **PATHWISE,
        "rl.reward": "si_sdr",
        "rl.signal_coef": 0.0,
    },
    "pathwise, meaning alone": {**PATHWISE, "rl.signal_coef": 0.0},
    "pathwise, absent queries too": {**PATHWISE, "rl:data.num_absent": 1},
}


def _lasting(name: str) -> dict[str, int]:
    """Return the settings of a variant's length; rates fall along with it."""
    steps = NUM_STEPS[name]
    return {"rl:training.num_steps": steps, "rl:optimiser.decay_steps": steps}


def _quality(stage: str, suffix: str) -> tuple[Metric, ...]:
    return (
        *parts.quality(stage, suffix),
        Metric(f"SIR, dB{suffix}", stage, "text/sir_db"),
        Metric(f"SAR, dB{suffix}", stage, "text/sar_db"),
        Metric(f"accuracy{suffix}", stage, "text/judge_accuracy", 3),
        Metric(f"margin{suffix}", stage, "text/judge_margin", 3),
    )


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; scale is full or small."""
    base = parts.base(scale, "listeners", per_seed=True)
    policy = parts.policy(scale)
    alone = {**policy.overrides, "training.eval_every": 0}
    stages = (
        parts.listeners(scale, per_seed=False),
        dataclasses.replace(base, shared_by=SEEDS_A_BASE),
        dataclasses.replace(policy, overrides=alone),
        parts.scores(scale, changes=TEST),
        parts.scores(scale, name="family", changes={**TEST, "test.same_family": True}),
    )
    return Grid(
        title="Reinforcement against as much supervised training",
        stages=stages,
        variants=tuple(
            Variant(name, {**_lasting(name), **changes}, BASELINES.get(name, ""))
            for name, changes in VARIANTS.items()
        ),
        reference="continued, all queries present",
        seeds=tuple(range(SEEDS_A_BASE * NUM_BASES)),
        metrics=(
            *_quality("scores", ""),
            *_quality("family", ", family"),
            Metric("steps", "rl", "steps", 0),
            Metric("s", "rl", "train_s", 0),
        ),
        plot=("SI-SDRi, dB", "judge", "accuracy"),
    )
