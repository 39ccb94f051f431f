"""Which mask of the policy separates best at test: its mode, its mean, or a draw.

Command:    python -m experiments.ablate --grid=experiments/grids/test_mask.py:small \
                --workdir=runs/test_mask
Time:       small: 17 minutes at the lowest priority on two cores shared with others.
            full: not run yet.
Shows:      experiments/ABLATIONS.md.

One base for all seeds: intervals over seeds are those of the policy stage alone.
"""

from experiments.ablation.grid import Grid, Variant
from experiments.grids import parts
from marssep_jax.config import MASKS


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; scale is full or small."""
    return Grid(
        title="Mask at test",
        stages=(
            parts.listeners(scale, per_seed=False),
            parts.base(scale, per_seed=False),
            parts.policy(scale),
            parts.scores(scale, "base", name="base_scores"),
            parts.scores(scale),
        ),
        variants=tuple(Variant(mask, {"test.mask": mask}) for mask in MASKS),
        reference="mode",
        metrics=(
            *parts.quality(),
            *parts.quality("base_scores", ", base"),
        ),
        plot=("SI-SDRi, dB", "SDR, dB", "judge"),
    )
