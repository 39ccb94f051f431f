"""Sample efficiency and stability of the policy stage: what each part adds.

Command:    python -m experiments.ablate --grid=experiments/grids/stability.py \
                --workdir=runs/stability
Time:       1 to 1.5 minutes a run on one core, after 13 for listeners and base.
Shows:      experiments/RL.md.

From the plain policy gradient to the clipped one, with entropy, with normalisation by
the group, all with four gradient steps a group, without which neither ratio nor clip
does anything, and with nothing that holds them at the base. Then what one step a group
makes of the last of them, and the same reward's derivative through one mask. Then the
quickstart's ``score``, which takes one step and is held by the supervised loss and a
divergence, and the preset ``pathwise``, which is held by that loss and whose reward has
a signal term and is heard as a waveform. All start from one supervised base. The reward
is that of the mode, on a batch that stays the same; SI-SDRi is that of the validation
mixtures, asked in words. A run has collapsed if it ends 0.5 dB below its start.
"""

import dataclasses

from experiments.ablation.grid import Curve, Grid, Metric, Variant
from experiments.grids import parts
from experiments.grids.evidence import PATHWISE

NUM_STEPS, EVALUATIONS = 32, 4
NEVER = 1_000
"""Evaluations without progress: none stops early, and the first is of the base."""

SCORE = {
    "rl.inner_epochs": 4,
    "rl.ratio_level": "bin",
    "rl.advantage": "moving_average",
    "rl.supervised_coef": 0.0,
    "rl.kl_ref_coef": 0.0,
    "rl.kl_old_coef": 0.0,
}
GROUP = {**SCORE, "rl.advantage": "group"}
VARIANTS = {
    "policy gradient": {**SCORE, "rl.ratio_level": "none"},
    "clipped": SCORE,
    "clipped, entropy": {**SCORE, "rl.entropy_coef": 0.1},
    "clipped, group": GROUP,
    "group, one step": {**GROUP, "rl.inner_epochs": 1},
    "derivative, one step": {
        **SCORE,
        "rl.estimator": "pathwise",
        "rl.group_size": 1,
        "rl.inner_epochs": 1,
    },
    "score, held": {},
    "pathwise": PATHWISE,
}


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; scale is full or small."""
    policy = parts.policy(scale)
    watched = {
        **policy.overrides,
        "training.num_steps": NUM_STEPS,
        "optimiser.decay_steps": NUM_STEPS,
        "training.eval_every": NUM_STEPS // EVALUATIONS,
        "training.log_every": 1,
        "training.patience": NEVER,
        "rl.stop_exploitation": False,
    }
    return Grid(
        title="Sample efficiency and stability of the policy stage",
        stages=(
            parts.listeners(scale, per_seed=False),
            parts.base(scale, per_seed=False),
            dataclasses.replace(policy, overrides=watched),
        ),
        variants=tuple(Variant(name, changes) for name, changes in VARIANTS.items()),
        reference="policy gradient",
        seeds=(0, 1, 2, 3, 4),
        metrics=(
            Metric("reward", "rl", "reward/of_mode", 3),
            Metric("SI-SDRi, dB", "rl", "eval/si_sdri_db"),
            Metric("judge", "rl", "eval/judge", 3),
            *parts.cost(),
        ),
        curves=(
            Curve("reward", "rl", "reward/of_mode"),
            Curve("SI-SDRi, dB", "rl", "eval/si_sdri_db", collapse=0.5),
            Curve("judge", "rl", "eval/judge", collapse=0.05),
        ),
    )
