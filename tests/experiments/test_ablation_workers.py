"""Processes of a grid: order, failures, memory, and how they are stopped."""

import json
import subprocess
import sys
import threading
import time

import psutil
import pytest

from experiments.ablation import workers
from experiments.ablation.plan import FAILURE, RECORD, Group, Task

WRITE = """
import json, pathlib, sys
runs, *keys = sys.argv[1:]
for key in keys:
    folder = pathlib.Path(runs, key)
    folder.mkdir(parents=True, exist_ok=True)
    if "bad" in key:
        (folder / "failed.json").write_text(json.dumps({"error": "it is bad"}))
    elif "dead" in key:
        sys.exit(7)
    else:
        record = {"backend": "cpu", "metrics": {"peak_mb": 100}}
        (folder / "run.json").write_text(json.dumps(record))
"""


def task(key, *needs):
    return Task(key, key, "train", {}, {}, {}, needs)


@pytest.fixture
def start():
    """Return a function that starts a small process and notes who ran beside it."""
    started = []

    def run(group, runs):
        keys = [one.key for one in group.tasks]
        process = subprocess.Popen([sys.executable, "-c", WRITE, str(runs), *keys])
        started.append(group.key)
        return process

    run.started = started
    return run


def test_groups_run_when_what_they_need_has_ended(start, tmp_path):
    groups = [
        Group((task("rl", "base"), task("scores", "rl"))),
        Group((task("base"),)),
        Group((task("other", "rl"),)),
    ]
    done = []
    failed = workers.run_groups(groups, tmp_path, jobs=2, done=done.append, start=start)
    assert failed == {}
    assert start.started == ["base", "rl", "other"]
    assert done == ["base", "rl", "scores", "other"]


def test_a_failure_stops_what_needs_it_and_nothing_else(start, tmp_path):
    groups = [
        Group((task("bad"), task("fine-after"))),
        Group((task("needs-bad", "bad"),)),
        Group((task("needs-that", "needs-bad"),)),
        Group((task("dead"),)),
        Group((task("fine"),)),
    ]
    done = []
    failed = workers.run_groups(groups, tmp_path, jobs=1, done=done.append, start=start)
    assert failed["bad"] == "it is bad"
    assert failed["needs-bad"] == "not run, because bad failed"
    assert failed["needs-that"] == "not run, because needs-bad failed"
    assert "status 7" in failed["dead"]
    assert "log.txt may say why" in failed["dead"]
    assert len(failed) == 4
    assert sorted(done) == sorted(t.key for group in groups for t in group.tasks)
    assert start.started == ["bad", "dead", "fine"]


def test_the_first_run_is_alone(start, tmp_path):
    """Its memory says how many may follow side by side."""
    seen = []

    def watched(group, runs):
        seen.append(len(list(tmp_path.glob(f"*/{RECORD}"))))
        return start(group, runs)

    groups = [Group((task(name),)) for name in "abc"]
    assert workers.run_groups(groups, tmp_path, jobs=3, start=watched) == {}
    assert seen[0] == 0
    assert min(seen[1:]) >= 1


def test_most_at_once():
    given = {"cores": 16, "peak_mb": 1_000.0, "room_mb": 5_000.0, "accelerator": False}
    assert workers.most_at_once(0, **given) == 4  # memory: 4500 of 5000 MB
    assert workers.most_at_once(3, **given) == 3
    assert workers.most_at_once(9, **given) == 4
    assert workers.most_at_once(0, **given | {"room_mb": 1e6}) == 8  # cores
    assert workers.most_at_once(0, **given | {"cores": 1}) == 1
    assert workers.most_at_once(0, **given | {"room_mb": 10.0}) == 1
    assert workers.most_at_once(4, **given | {"peak_mb": 0.0}) == 1  # not known yet
    assert workers.most_at_once(0, **given | {"accelerator": True}) == 1
    assert workers.most_at_once(2, **given | {"accelerator": True}) == 2


def test_free_memory_is_that_of_the_machine_or_less():
    free = workers.free_mb()
    assert 0 < free <= psutil.virtual_memory().total / 2**20


def test_ctrl_c_stops_the_processes(tmp_path):
    begun = []

    def sleeper(group, runs):
        code = "import time; time.sleep(60)"
        begun.append(subprocess.Popen([sys.executable, "-c", code]))
        return begun[-1]

    def interrupted(key):
        raise KeyboardInterrupt

    groups = [Group((task("a"),)), Group((task("b"),))]
    threading.Timer(0.5, lambda: begun[0].kill()).start()
    (tmp_path / "old").mkdir()
    record = {"backend": "cpu", "metrics": {"peak_mb": 1}}
    (tmp_path / "old" / RECORD).write_text(json.dumps(record))
    clock = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        workers.run_groups(groups, tmp_path, jobs=2, done=interrupted, start=sleeper)
    assert len(begun) == 2  # both were at work
    assert all(process.poll() is not None for process in begun)
    assert time.monotonic() - clock < 30


def test_a_launched_process_tells_its_failures(tmp_path):
    """A real one, of settings that the plan would have refused."""
    bad = task("bad")._replace(settings={"nonsense": 1})
    group = Group((bad, task("after", "bad")))
    failed = workers.run_groups([group], tmp_path)
    assert failed["bad"].startswith("config.nonsense is unknown, expected one of")
    assert failed["after"] == "not run, because bad failed"
    assert (
        json.loads((tmp_path / "bad" / FAILURE).read_text())["error"] == failed["bad"]
    )
    assert "error: bad: config.nonsense" in (tmp_path / "bad" / "log.txt").read_text()
