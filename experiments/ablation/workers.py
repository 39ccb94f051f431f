"""Processes side by side, as many as memory and cores allow."""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import psutil

from experiments.ablation.plan import FAILURE, JOB, LOG, RECORD, Group
from marssep_jax import interrupts
from marssep_jax.checkpoint.workdir import write_json

CORES_PER_RUN = 2
"""A small network keeps about two cores busy."""

MEMORY_SHARE = 0.9
"""Of what is free: runs of one grid differ a little in what they take."""

POLL_S = 0.2
GRACE_S = 60.0
"""For a process that was asked to stop: it may be compiling."""

Launch = Callable[[Group, pathlib.Path], "subprocess.Popen[bytes]"]


class Worker(NamedTuple):
    """A process at work on a group."""

    group: Group
    process: "subprocess.Popen[bytes]"


class Cost(NamedTuple):
    """What a task has taken: memory, and whether an accelerator."""

    peak_mb: float
    accelerator: bool


def read_json(path: pathlib.Path) -> dict[str, Any] | None:
    """Return a JSON record; None if it is not there or cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def read_record(runs: pathlib.Path, key: str) -> dict[str, Any] | None:
    """Return what a task has left, None if it has not ended."""
    return read_json(runs / key / RECORD)


def launch(group: Group, runs: pathlib.Path) -> "subprocess.Popen[bytes]":
    """Start a process for a group; its output goes to the group's log."""
    for task in group.tasks:
        (runs / task.key).mkdir(parents=True, exist_ok=True)
        (runs / task.key / FAILURE).unlink(missing_ok=True)
    job = runs / group.key / JOB
    write_json(job, {"tasks": [task._asdict() for task in group.tasks]})
    command = [sys.executable, "-m", "experiments.ablation.task", f"--job={job}"]
    with open(runs / group.key / LOG, "ab") as log:
        return subprocess.Popen(
            [*command, "--with_parent"], stdin=subprocess.PIPE, stdout=log, stderr=log
        )


def run_groups(
    groups: list[Group],
    runs: pathlib.Path,
    *,
    jobs: int = 0,
    done: Callable[[str], None] = lambda key: None,
    start: Launch = launch,
) -> dict[str, str]:
    """Run groups, each when what it needs has ended.

    Args:
      groups: of `experiments.ablation.plan.make_groups`.
      runs: folder of the runs.
      jobs: most processes at once; 0 takes as many as cores and memory allow. The
        first one runs alone, and tells how much memory a run takes.
      done: hears the key of every task that has ended, well or not.
      start: starts a process.

    Returns:
      Why tasks failed, by key.
    """
    failed: dict[str, str] = {}
    waiting, running = list(groups), list[Worker]()
    costs = [_cost(read_json(path)) for path in runs.glob(f"*/{RECORD}")]
    try:
        while waiting or running:
            interrupts.check()
            for worker in [w for w in running if w.process.poll() is not None]:
                running.remove(worker)
                _close(worker)
                failed |= _failures(worker, runs)
                for task in worker.group.tasks:
                    costs.append(_cost(read_record(runs, task.key)))
                    done(task.key)
            while group := next((g for g in waiting if failed.keys() & g.needs), None):
                waiting.remove(group)
                cause = sorted(failed.keys() & group.needs)[0]
                for task in group.tasks:
                    failed[task.key] = f"not run, because {cause} failed"
                    done(task.key)
            blocked = {t.key for g in waiting for t in g.tasks} | {
                t.key for w in running for t in w.group.tasks
            }
            ready = next((g for g in waiting if not blocked & g.needs), None)
            if ready and len(running) < _limit(jobs, running, costs):
                waiting.remove(ready)
                running.append(Worker(ready, start(ready, runs)))
            elif running:
                time.sleep(POLL_S)
    finally:
        _stop(running)
    return failed


def _failures(worker: Worker, runs: pathlib.Path) -> dict[str, str]:
    """Say of each task that left no record why."""
    found: dict[str, str] = {}
    code = worker.process.returncode
    for task in worker.group.tasks:
        if read_record(runs, task.key) is None:
            told = read_json(runs / task.key / FAILURE) or {}
            log = runs / worker.group.key / LOG
            ended = f"its process ended with status {code}, {log} may say why"
            found[task.key] = str(told.get("error", ended))
    return found


def _cost(record: dict[str, Any] | None) -> Cost:
    if record is None:
        return Cost(0.0, False)
    return Cost(record["metrics"]["peak_mb"], record["backend"] != "cpu")


def _limit(jobs: int, running: list[Worker], costs: list[Cost]) -> int:
    return most_at_once(
        jobs,
        cores=num_cores(),
        peak_mb=max((cost.peak_mb for cost in costs), default=0.0),
        room_mb=free_mb() + sum(_resident_mb(w.process.pid) for w in running),
        accelerator=any(cost.accelerator for cost in costs),
    )


def most_at_once(
    jobs: int, *, cores: int, peak_mb: float, room_mb: float, accelerator: bool
) -> int:
    """Return how many processes may run at once, at least one.

    Args:
      jobs: what the user wants; 0 leaves it to cores and memory.
      cores: cores of this process.
      peak_mb: most memory that a run has taken; 0 while that is not known.
      room_mb: memory that is free or taken by runs.
      accelerator: runs are at work on one: it is not shared unless the user says so.
    """
    if not peak_mb:
        return 1
    wanted = jobs or (1 if accelerator else cores // CORES_PER_RUN)
    return max(1, min(wanted, int(MEMORY_SHARE * room_mb / peak_mb)))


def num_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_mb() -> float:
    """Return the memory that is free for programs, within a container's limit."""
    free = psutil.virtual_memory().available
    group = pathlib.Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        pass
    return free / 2**20


def _resident_mb(pid: int) -> float:
    try:
        return psutil.Process(pid).memory_info().rss / 2**20
    except psutil.Error:  # it has just ended
        return 0.0


def _stop(running: list[Worker]) -> None:
    """Ask processes to stop, and insist in the end."""
    for worker in running:
        worker.process.terminate()
    deadline = time.monotonic() + GRACE_S
    for worker in running:
        try:
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        _close(worker)


def _close(worker: Worker) -> None:
    if worker.process.stdin is not None:
        worker.process.stdin.close()
