"""Runs of the training program that tests disturb, and what is left of them."""

import json

CONFIG = "--config=experiments/configs/debug.py"
# Long enough to be stopped in the middle; nothing is compiled but the step.
LONG = (
    CONFIG,
    "--config.data.num_validation=0",
    "--config.training.num_steps=400",
    "--config.training.log_every=5",
    "--config.training.save_every=20",
    "--config.training.keep_latest=3",
)
SHORT = (
    CONFIG,
    "--config.data.num_validation=0",
    "--config.training.num_steps=2",
)
MODEL = "model/parameters.npz"


def assert_one_line(outcome, *parts):
    assert outcome.code == 1
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
    assert "Traceback" not in lines[0]


def all_rows(workdir):
    """Return the rows of a run, what they cost included."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def rows(workdir):
    """Return the rows of a run without what two equal runs may differ in."""
    return [
        {k: v for k, v in row.items() if not k.startswith(("wall_s", "run/"))}
        for row in all_rows(workdir)
    ]


def saved_steps(workdir):
    """Return the steps of all checkpoints that are whole."""
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return sorted(int(name) for name in names if name.isdigit())
