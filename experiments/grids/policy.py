"""The policy stage by the score function, one setting at a time.

Command:    python -m experiments.ablate --grid=experiments/grids/policy.py:small \
                --workdir=runs/policy
One axis:   ... --variants='score,noise_patch=*'
Time:       small: 1 to 3 minutes a run and 10 for the base, at the lowest priority on
            two cores shared with others; 84 runs in all. full: not run yet.
Shows:      experiments/ABLATIONS.md.

``score`` takes one step a group: the ratio is then 1 and the KL to the sampler 0,
so that neither clip nor that KL acts. Their axes take four steps a group and are
compared with "four steps a group".
"""

from experiments.ablation.grid import Grid, Variant, around
from experiments.grids import parts

AXES = {
    "policy.kappa": (3.0, 5.0, 15.0, 30.0),
    "rl.entropy_coef": (0.01, 0.1, 0.2),
    "rl.kl_ref_coef": (0.0, 0.1),
    "rl.group_size": (2, 4, 16),
    "policy.noise_patch": ((1, 1), (4, 8), (16, 64)),
    "rl.reward": ("cosine", "si_sdr"),
    "rl.supervised_coef": (0.0,),
}
FOUR_STEPS = {"rl.inner_epochs": 4}
AXES_OF_FOUR = {
    "rl.clip_eps": (0.05, 0.1, 0.4),
    "rl.kl_old_coef": (0.0, 0.1),
    "rl.ratio_level": ("mask", "joint", "none"),
}


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; scale is full or small."""
    four = "four steps a group"
    return Grid(
        title="The policy stage, one setting at a time",
        stages=(
            parts.listeners(scale, per_seed=False),
            parts.base(scale, per_seed=False),
            parts.policy(scale),
            parts.scores(scale),
        ),
        variants=(
            Variant("score"),
            *around(AXES),
            Variant(four, FOUR_STEPS),
            *around(AXES_OF_FOUR, reference=four, fixed=FOUR_STEPS),
        ),
        reference="score",
        metrics=(*parts.quality(), *parts.cost()),
        plot=("SI-SDRi, dB", "SDR, dB", "judge"),
    )
