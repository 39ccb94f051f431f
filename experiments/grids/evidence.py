"""Reinforcement against the supervised base trained on for the same wall time.

Command:    python -m experiments.ablate --grid=experiments/grids/evidence.py \
                --workdir=runs/evidence --jobs=1
Time:       on two quiet cores 5 minutes for each of the three bases, 2 to 4 for each of
            15 seeds of a variant.
Shows:      experiments/RL.md.

Three supervised bases, five seeds each: seeds 0 to 4 start from the first base, 5 to 9
from the second, 10 to 14 from the third. ``continued`` is the baseline: it trains for
as many seconds as the slowest policy stage is given, one run at a time.
"""

import dataclasses

from experiments.ablation.grid import Grid, Metric, Variant
from experiments.grids import parts

WALL_S = 60.0
"""Seconds of training that every variant has at most."""

SEEDS_A_BASE, NUM_BASES = 5, 3

CONTINUED = {
    "rl:stage": "supervised",
    "rl:name": "continued",
    "rl:training.num_steps": 100_000,
    "rl:training.batch_size": 12,
    "rl:data.num_absent": 1,
    "rl:optimiser.learning_rate": 2e-4,
    "rl:optimiser.decay_steps": 0,
}
"""The quickstart's settings of its own continued base."""

PATHWISE = {
    "rl.estimator": "pathwise",
    "rl.group_size": 1,
    "rl.advantage": "batch",
    "rl.gain_coef": 0.3,
    "rl.supervised_coef": 1.0,
    "rl.kl_ref_coef": 0.0,
    "rl.kl_old_coef": 0.0,
    "rl:training.batch_size": 12,
    "rl:optimiser.learning_rate": 2e-4,
}
"""The reward's own derivative, as one loss beside the supervised one."""

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


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; scale is full or small."""
    base = parts.base(scale, "listeners", per_seed=True)
    policy = parts.policy(scale)
    timed = {"training.num_steps": 250, "training.max_wall_s": WALL_S}
    timed |= {"optimiser.decay_steps": 250, "training.eval_every": 0}
    stages = (
        parts.listeners(scale, per_seed=False),
        dataclasses.replace(base, shared_by=SEEDS_A_BASE),
        dataclasses.replace(policy, overrides={**policy.overrides, **timed}),
        parts.scores(scale, changes={"test.num_mixtures": 500, "test.num_ratios": 0}),
    )
    return Grid(
        title="Reinforcement against as much supervised training",
        stages=stages,
        variants=(
            Variant("continued", CONTINUED),
            Variant("score"),
            Variant("control variate", CONTROL_VARIATE),
            Variant("pathwise", PATHWISE),
        ),
        reference="continued",
        seeds=tuple(range(SEEDS_A_BASE * NUM_BASES)),
        metrics=(
            *parts.quality(),
            Metric("accuracy", "scores", "text/judge_accuracy", 3),
            Metric("steps", "rl", "steps", 0),
            Metric("s", "rl", "train_s", 0),
        ),
        plot=("SI-SDRi, dB", "judge", "accuracy"),
    )
