"""Launchers: the commands that they print, and a training that one really starts."""

import json
import shlex
import time

import numpy as np
import psutil
import pytest

from experiments.host_log import LOST

TRAINING = ("--", "--config=a.py", "--workdir=runs/a b")
POD = ("--name=n", "--zone=z", "--dry_run")
# What only a single process computes: it needs whole batches.
WATCHED = {
    *("policy/cos_pathwise", "reward/of_mixture"),
    *("reward/of_ideal", "reward/of_mode"),
}
BUCKET = "--checkpoints=gs://b/run"


def commands(program, name, *argv):
    """Return the commands that a launcher prints, as words."""
    outcome = program(f"experiments.launch.{name}", *argv)
    assert outcome.code == 0, outcome.err
    return [shlex.split(line) for line in outcome.out.splitlines()]


def test_local(program):
    argv = ("--dry_run", "--processes=2", "--port=1234", "--gpus", *TRAINING)
    *processes, last = commands(program, "local", *argv)
    assert last == ["wait"]
    for index, words in enumerate(processes):
        assert words == [
            *(f"CUDA_VISIBLE_DEVICES={index}", "python", "-m", "experiments.train"),
            *TRAINING[1:],
            *("--coordinator=127.0.0.1:1234", "--num_processes=2"),
            *(f"--process_id={index}", "&"),
        ]


def test_slurm(program):
    argv = ("--dry_run", "--nodes=2", "--gpus_per_node=4", "--partition=p", *TRAINING)
    (words,) = commands(program, "slurm", *argv)
    assert words[0] == "sbatch"
    assert words[-3:] == ["experiments/launch/slurm.sh", *TRAINING[1:]]
    # Every task sees all GPUs of its node, and there is one for each.
    wanted = {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--partition=p"}
    assert wanted <= set(words)


def test_tpu_pod(program):
    tasks = "--tasks=create,install,data,train,delete"
    argv = (*POD, tasks, "--data=gs://b/data", *TRAINING, BUCKET)
    found = commands(program, "tpu_pod", *argv)
    assert [words[0] for words in found] == ["gcloud", "tar"] + 5 * ["gcloud"]
    assert found[0][3:6] == ["queued-resources", "create", "n"]
    assert found[2][3:5] == ["tpu-vm", "scp"]
    for words, line in (
        (found[4], ["bash", "marssep_jax/experiments/launch/tpu_pod.sh", "data"]),
        (found[5], ["bash", "marssep_jax/experiments/launch/tpu_pod.sh", "train"]),
    ):
        assert words[3:5] == ["tpu-vm", "ssh"]
        assert "--worker=all" in words
        sent = shlex.split(words[-1].removeprefix("--command="))
        assert sent[:3] == line
    assert sent[3:] == [*TRAINING[1:], BUCKET]
    assert found[6][3:6] == ["queued-resources", "delete", "n"]


@pytest.mark.parametrize(
    ("name", "argv", "message"),
    [
        ("local", ["--", "--config=a.py"], "--workdir= is missing, expected it after"),
        ("local", ["--processes=0", *TRAINING], "processes is 0, expected >= 1"),
        ("slurm", ["--nodes=0", *TRAINING], "nodes is 0, expected >= 1"),
        ("tpu_pod", [*POD, "--tasks=fly"], "tasks has 'fly', expected some of create"),
        ("tpu_pod", [*POD, *TRAINING], "--checkpoints=gs://... is missing"),
    ],
)
def test_what_cannot_be_launched(program, name, argv, message):
    outcome = program(f"experiments.launch.{name}", *argv)
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert message in line
    assert not outcome.out


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def wait_for(path, process):
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.long
def test_processes_equal_one_though_one_is_killed(
    chain, start, request, tmp_path, monkeypatch
):
    """The rest end in a line, all start again, and the rows are those of one process.

    ``pytest --processes=4`` does it with four.
    """
    # All compile the same, at once, and the numbers need not be made fast.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    count = request.config.getoption("--processes")
    workdir, kept = tmp_path / "run", tmp_path / "checkpoints"
    argv = [f"--processes={count}", "--restarts=1", "--"]
    argv += ["--config=experiments/configs/debug.py:policy", f"--workdir={workdir}"]
    argv += [f"--checkpoints={kept}", "--heartbeat_s=10"]
    for name, stage in (("encoder", "listeners"), ("separator", "supervised")):
        argv.append(f"--config.start.{name}={chain / 'stages' / stage}")
    with start("experiments.launch.local", *argv) as launcher:
        try:
            wait_for(kept / "2", launcher)
            (victim,) = (
                child
                for child in psutil.Process(launcher.pid).children()
                if f"--process_id={count - 1}" in child.cmdline()
            )
            victim.kill()
            before = rows(workdir)[-1]["step"]
            out, err = launcher.communicate(timeout=300)
        finally:
            if launcher.poll() is None:
                for child in psutil.Process(launcher.pid).children():
                    child.kill()
                launcher.kill()
    assert launcher.returncode == 0
    assert 2 <= before < 6
    assert out.count("a process was lost: all start again\n") == 1
    assert out.count("model in") == 1  # process 0 alone speaks
    others = [line for line in err.splitlines() if not line.startswith("rl ")]
    assert others == [LOST] * (count - 1)
    assert (workdir / "COMPLETED").exists()
    found, expected = rows(workdir), rows(chain / "stages" / "rl")
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    for mine, alone in zip(found, expected, strict=True):
        assert alone.keys() - mine.keys() <= WATCHED
        for name in mine.keys() - {"wall_s", "stage"}:
            if name.startswith("run/"):  # of this machine, at that time
                continue
            np.testing.assert_allclose(mine[name], alone[name], atol=1e-5, rtol=1e-5)
