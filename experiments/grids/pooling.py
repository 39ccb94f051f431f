"""How the reward's anchor pools sound, words and picture.

Command:    python -m experiments.ablate --grid=experiments/grids/pooling.py:small \
                --workdir=runs/pooling
Time:       90 minutes on one core that other work shared: for every pooling and seed an
            alignment, a policy stage and an evaluation, and a base for every seed.
Shows:      no difference that three seeds can tell; experiments/ABLATIONS.md.

A pooling learns beside the encoder's heads and is frozen in the policy stage, so that
the alignment is run for each of them. Query encoder and base are those of the default
pooling: what differs is the reward.
"""

from experiments.ablation.grid import Grid, Metric, Variant
from experiments.grids import parts
from marssep_jax.config import POOLINGS

KEY = "rewarder,rl:encoder.pooling"


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; scale is full or small."""
    return Grid(
        title="Pooling of the reward's anchor",
        stages=(
            parts.listeners(scale),
            parts.base(scale),
            parts.listeners(scale, "rewarder"),
            parts.policy(scale, "rewarder"),
            parts.scores(scale),
        ),
        variants=tuple(Variant(name, {KEY: name}) for name in POOLINGS),
        reference="mlbp",
        metrics=(
            *parts.quality(),
            Metric("R@1, clip to words", "rewarder", "eval/text_recall_at_1", 3),
            Metric("gap, words", "rewarder", "eval/text_gap", 3),
        ),
        plot=("SI-SDRi, dB", "SDR, dB", "judge"),
    )
