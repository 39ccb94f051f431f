"""What happens to a training: signals, full disks, lost checkpoints, all survived."""

import contextlib
import os
import resource
import shutil
import signal
import time

import numpy as np
import pytest

from tests.support.disks import read_only, use_up
from tests.support.training_runs import (
    LONG,
    MODEL,
    SHORT,
    all_rows,
    assert_one_line,
    rows,
    saved_steps,
)

pytestmark = [pytest.mark.slow, pytest.mark.long]


def wait_for_step(process, workdir, step):
    """Wait until the row of a step is there and the checkpoint before it, too."""
    deadline = time.monotonic() + 120
    log, saved = workdir / "metrics.jsonl", workdir / "checkpoints" / "20"
    while not (log.exists() and saved.exists() and rows(workdir)[-1]["step"] >= step):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_goes_on_as_undisturbed(program, workdir, trained):
    assert not (workdir / "COMPLETED").exists()
    assert not (workdir / "model").exists()
    outcome = program("experiments.train", *LONG, f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    # It went on: the first step of this session is not the first of the run.
    first = outcome.err.splitlines()[0]
    assert first.startswith("supervised ")
    assert int(first.split()[1].split("/")[0]) > 20
    assert (workdir / MODEL).read_bytes() == (trained / MODEL).read_bytes()
    assert rows(workdir) == rows(trained)
    assert (workdir / "COMPLETED").exists()


@pytest.mark.parametrize(
    ("number", "code", "last"),
    [
        (signal.SIGINT, 130, "stopped"),
        (signal.SIGTERM, 143, "terminated"),
    ],
)
def test_stopped_in_the_middle(start, program, trained, tmp_path, number, code, last):
    workdir = tmp_path / "run"
    with start("experiments.train", *LONG, f"--workdir={workdir}") as process:
        wait_for_step(process, workdir, 40)
        reached = rows(workdir)[-1]["step"]
        for _ in range(2):  # whoever asks twice disturbs nothing
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    lines = [line for line in err.splitlines() if not line.startswith("supervised ")]
    assert lines == [last]
    if number == signal.SIGTERM:  # no step is lost, whatever the period of saving
        assert saved_steps(workdir)[-1] >= reached
        assert saved_steps(workdir)[-1] >= rows(workdir)[-1]["step"]
    assert_goes_on_as_undisturbed(program, workdir, trained)


def assert_told_of_no_room(process, workdir):
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    lines = [line for line in err.splitlines() if not line.startswith("supervised ")]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "cannot write " in lines[0]
    assert str(workdir) in lines[0]
    assert "Traceback" not in err


def test_full_disk(start, program, trained, small_disk):
    """Somebody else fills the disk; once there is room again, the run goes on."""
    workdir, filler = small_disk / "run", small_disk / "filler"
    with start("experiments.train", *LONG, f"--workdir={workdir}") as process:
        wait_for_step(process, workdir, 40)
        use_up(filler)
        assert_told_of_no_room(process, workdir)
    filler.unlink()
    assert_goes_on_as_undisturbed(program, workdir, trained)


def test_read_only_workdir(program, trained, small_disk):
    workdir = small_disk / "run"
    shutil.copytree(trained, workdir)
    read_only(small_disk)
    outcome = program("experiments.train", *LONG, f"--workdir={workdir}")
    expected = f"workdir is {str(workdir)!r}, expected a folder that can be written"
    assert_one_line(outcome, expected, "(Read-only file system)")


def test_quota(start, program, trained, tmp_path):
    """No file may grow any more: writes fail half-way, with EFBIG."""
    workdir = tmp_path / "run"
    with start("experiments.train", *LONG, f"--workdir={workdir}") as process:
        wait_for_step(process, workdir, 40)
        size = (workdir / "metrics.jsonl").stat().st_size
        limits = (size, resource.RLIM_INFINITY)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        assert_told_of_no_room(process, workdir)
    assert_goes_on_as_undisturbed(program, workdir, trained)


def test_lost_checkpoints(program, trained, tmp_path):
    """The newest is gone, the one before cut short: it goes on from the third."""
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    third, second, newest = saved_steps(workdir)
    shutil.rmtree(workdir / "checkpoints" / str(newest))
    state = workdir / "checkpoints" / str(second) / "state" / "d"
    largest = max(state.iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    outcome = program("experiments.train", *LONG, f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    gone = f"is complete, but its checkpoint of step {newest} is gone"
    assert gone in outcome.out
    assert f"{second} cannot be read" in outcome.err
    assert f"going on from step {third}" in outcome.err
    assert (workdir / MODEL).read_bytes() == (trained / MODEL).read_bytes()
    assert rows(workdir) == rows(trained)


def test_nothing_is_compiled_but_the_step(trained):
    """And that once: of a hundred rows, the first alone counts compilations."""
    counts = [row["run/compiled"] for row in all_rows(trained)]
    assert counts[0] > 0
    assert not any(counts[1:])
    assert all_rows(trained)[0]["run/compile_s"] > 0


def test_compiled_ahead_of_time(program, tmp_path):
    """What the run would compile is then read, and no workdir was made for that."""
    cache, workdir = tmp_path / "cache", tmp_path / "run"
    argv = (*SHORT, f"--workdir={workdir}")
    env = {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    outcome = program("experiments.train", *argv, "--compile_only", env=env)
    assert outcome.code == 0, outcome.err
    assert "programs compiled or read from the cache in" in outcome.out
    assert not workdir.exists()
    made = {path.name for path in cache.glob("*-cache")}
    assert any(name.startswith("jit_update-") for name in made)
    outcome = program("experiments.train", *argv, env=env)
    assert outcome.code == 0, outcome.err
    later = {path.name for path in cache.glob("*-cache")} - made
    assert not [name for name in later if name.startswith("jit_update-")]


@pytest.fixture
def long_run(trained, program, tmp_path):
    """Return the rows of a run of MARSSEP_STEPS steps; of four hundred where unset."""
    if "MARSSEP_STEPS" not in os.environ:
        return all_rows(trained)
    count = int(os.environ["MARSSEP_STEPS"])
    argv = [*LONG, f"--config.training.num_steps={count}"]
    argv.append("--config.training.save_every=1000")
    outcome = program("experiments.train", *argv, f"--workdir={tmp_path}")
    assert outcome.code == 0, outcome.err
    return all_rows(tmp_path)


def test_memory_does_not_grow(long_run):
    """A batch of 400 kB that stayed would be 120 MB after three hundred steps.

    Orbax and the allocator settle in the first hundreds, hence the allowance.
    """
    later = [row["run/host_mb"] for row in long_run if row["step"] > 100]
    first, last = np.mean(later[:10]), np.mean(later[-10:])
    steps = long_run[-1]["step"]
    print(f"{first:.1f} MB at first, {last:.1f} MB in the end, of {steps} steps")
    assert last - first < 50
