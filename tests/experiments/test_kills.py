"""Killed again and again, at any moment, a run ends as one that nobody touched.

MARSSEP_KILLS is the number of kills, MARSSEP_KILLS_SEED chooses their moments; -s
shows where they hit. A few are part of the slow tests; `experiments/FAULTS.md` says
what fifty showed.
"""

import json
import os
import random
import signal

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.support.killed import MOMENTS
from tests.support.training_runs import CONFIG, MODEL, all_rows, rows, saved_steps

pytestmark = [pytest.mark.slow, pytest.mark.long]

FEW = ("read what is compiled", "save", "evaluation", "last step")
NUM_KILLS = int(os.environ.get("MARSSEP_KILLS", len(FEW)))
SEED = int(os.environ.get("MARSSEP_KILLS_SEED", "0"))
OPTIONS = (
    "--config.training.num_steps=12",
    "--config.training.log_every=1",
    "--config.training.eval_every=6",
    "--config.training.save_every=3",
    "--config.data.num_validation=4",
)


def draw_moments(generator):
    """Return the moments of one run, those that end it last."""
    if len(FEW) >= NUM_KILLS:
        return list(FEW)[:NUM_KILLS]
    early = ["start", "compile", "read what is compiled", "first step"]
    middle = ["step", "save", "evaluation"]
    generator.shuffle(early)
    generator.shuffle(middle)
    found = [*early, *middle, "last step", "export"]
    assert sorted(found) == sorted(MOMENTS)
    return found


@pytest.fixture(scope="session")
def undisturbed(program, once, trained):
    """Return a function: stage -> its flags, and the workdir of a whole run."""

    def make(stage):
        argv = [f"{CONFIG}:{stage}", *OPTIONS]
        if stage == "policy":
            argv.append(f"--config.start.separator={trained}")

        def fill(folder):
            outcome = program("experiments.train", *argv, f"--workdir={folder}")
            assert outcome.code == 0, outcome.err

        return argv, once(f"undisturbed_{stage}", fill)

    return make


def kill(start, moment, seed, argv, workdir):
    """Start a run, kill it and return where; None if it came to its end before."""
    # The step is compiled anew, which takes longer than reading it from the cache.
    anew = moment == "compile" and len(FEW) < NUM_KILLS
    cache = {"JAX_ENABLE_COMPILATION_CACHE": "false"} if anew else {}
    argv = [moment, seed, "experiments.train", *argv, f"--workdir={workdir}"]
    with start("tests.support.killed", *argv, env=cache) as process:
        _, err = process.communicate(timeout=300)
    if process.returncode == 0:
        return None
    assert process.returncode == -signal.SIGKILL, err
    return err.splitlines()[-1]


def kept_rows(workdir):
    """Return the rows up to the newest checkpoint: no later session may touch them."""
    if not saved_steps(workdir):
        return []
    last = saved_steps(workdir)[-1]
    return [row for row in all_rows(workdir) if row["step"] <= last]


def final_state(workdir):
    """Return all that the last checkpoint holds, as it lies on disk."""
    folder = workdir / "checkpoints" / str(saved_steps(workdir)[-1])
    position = json.loads((folder / "position" / "metadata").read_text())
    position.pop("wall_s")
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(folder / "state"), position


def assert_as_undisturbed(workdir, whole):
    assert (workdir / MODEL).read_bytes() == (whole / MODEL).read_bytes()
    assert rows(workdir) == rows(whole)
    steps = [row["step"] for row in rows(workdir)]
    assert len(set(steps)) == len(steps)
    assert saved_steps(workdir) == saved_steps(whole)
    (state, position), (wanted, expected) = final_state(workdir), final_state(whole)
    assert position == expected
    assert jax.tree.structure(state) == jax.tree.structure(wanted)
    for ours, theirs in zip(
        jax.tree.leaves(state), jax.tree.leaves(wanted), strict=True
    ):
        if jax.dtypes.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        np.testing.assert_array_equal(ours, theirs)


def test_kills(start, program, undisturbed, tmp_path):
    generator, num_kills, run = random.Random(SEED), 0, 0
    while num_kills < NUM_KILLS:
        stage = ("policy", "supervised")[run % 2]
        argv, whole = undisturbed(stage)
        workdir = tmp_path / str(run)
        for moment in draw_moments(generator):
            before = kept_rows(workdir)
            place = kill(start, moment, generator.randrange(2**32), argv, workdir)
            if (workdir / "metrics.jsonl").exists():
                assert all_rows(workdir)[: len(before)] == before
            if place is None:
                break
            num_kills += 1
            print(f"{num_kills} {stage} {saved_steps(workdir)}: {place}", flush=True)
            if num_kills == NUM_KILLS:
                break
        outcome = program("experiments.train", *argv, f"--workdir={workdir}")
        assert outcome.code == 0, outcome.err
        assert_as_undisturbed(workdir, whole)
        run += 1
    print(f"{num_kills} kills of {run} runs: all ended as undisturbed ones")
