"""Two lengths of the policy stage and two masks at test, on clips made in memory.

Command:    python -m experiments.ablate --grid=experiments/grids/debug.py \
                --workdir=/tmp/debug_grid
Time:       under a minute on two cores.
Shows:      nothing: a dozen steps a stage. Tests run it from end to end.
"""

from experiments.ablation.grid import Curve, Grid, Metric, Stage, product

CONFIG = "experiments/configs/debug.py"
QUICK = {"data.num_validation": 0, "training.patience": 0, "training.eval_every": 0}
LOGGED = {**QUICK, "training.log_every": 1}
AXES = {"rl:training.num_steps": (2, 4), "test.mask": ("mode", "sample")}


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; there is one scale."""
    if scale != "full":
        raise ValueError(f"scale is {scale!r}, expected full")
    scores = {"test.num_mixtures": 8}
    return Grid(
        title="Steps of the policy stage and the mask at test",
        stages=(
            Stage("base", "train", CONFIG, "supervised", QUICK, per_seed=False),
            Stage("rl", "train", CONFIG, "policy", LOGGED, {"separator": "base"}),
            Stage("scores", "evaluate", CONFIG, "policy", scores, {"model": "rl"}),
        ),
        variants=product(AXES),
        reference="num_steps=2 mask=mode",
        seeds=(0, 1),
        metrics=(
            Metric("SI-SDRi, dB", "scores", "text/si_sdri_db"),
            Metric("KL to the base", "rl", "policy/kl_ref", 4),
            Metric("s a step", "rl", "s_per_step", 3),
        ),
        plot=("SI-SDRi, dB",),
        curves=(Curve("reward", "rl", "reward/mean", collapse=0.5),),
    )
