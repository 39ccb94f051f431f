"""More sources in a mixture, at training and at test.

Command:    python -m experiments.ablate --grid=experiments/grids/sources.py:small \
                --workdir=runs/sources
Time:       not run yet; for each K of the training and each seed a base and a policy
            stage, for each K at test two evaluations.
Shows:      nothing yet.

K at test changes the mixtures: only models that met the same ones are compared, each
with the one that was trained on two sources.
"""

from experiments.ablation.grid import Grid, Variant
from experiments.grids import parts

COUNTS = (2, 3, 4)


def get_grid(scale: str = "full") -> Grid:
    """Return the grid; scale is full or small."""
    return Grid(
        title="Sources of a mixture",
        stages=(
            parts.listeners(scale, per_seed=False),
            parts.base(scale),
            parts.policy(scale),
            parts.scores(scale, "base", name="base_scores"),
            parts.scores(scale, changes={"test.num_mixtures": 200}),
        ),
        variants=tuple(
            Variant(
                _name(trained, heard),
                {
                    "base,rl:data.num_sources": trained,
                    "test.num_sources": heard,
                },
                _name(2, heard),
            )
            for heard in COUNTS
            for trained in COUNTS
        ),
        reference=_name(2, 2),
        metrics=(
            *parts.quality(),
            *parts.quality("base_scores", ", base"),
            *parts.cost(),
        ),
        plot=("SI-SDRi, dB", "SDR, dB", "judge"),
    )


def _name(trained: int, heard: int) -> str:
    return f"K={trained} tested on K={heard}"
