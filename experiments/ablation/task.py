"""Do the tasks of one process of a grid, in turn; `experiments.ablate` starts this.

Example:
  python -m experiments.ablation.task --job=runs/policy/runs/rl-0123456789/job.json
"""

import json
import os
import pathlib
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from experiments import command


def main() -> None:
    """Do the tasks that the job file lists; a failed one is told in its folder."""
    from experiments.ablation.plan import FAILURE, RECORD, Task
    from marssep_jax.checkpoint.workdir import write_json

    if flags.FLAGS.with_parent:
        threading.Thread(target=_stop_with_parent, daemon=True).start()
    path = pathlib.Path(flags.FLAGS.job)
    runs = path.parent.parent
    failed: set[str] = set()
    for values in json.loads(path.read_text(encoding="utf-8"))["tasks"]:
        task = Task(**values)
        folder = runs / task.key
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for needed in failed & set(task.needs):
                raise ValueError(f"not run, because {needed} failed")
            write_json(folder / RECORD, run_task(task, folder))
        except Exception as error:  # the others go on
            if not isinstance(error, command.EXPECTED):
                traceback.print_exc()
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            text = " ".join(f"{kind}{error}".split())
            print(f"error: {task.key}: {text}", file=sys.stderr, flush=True)
            write_json(folder / FAILURE, {"error": text})
            failed.add(task.key)


def run_task(task: Any, folder: pathlib.Path) -> dict[str, Any]:
    """Do a task and return what is to be kept of it, with time and memory."""
    import jax

    from experiments.provenance import provenance

    begun = time.monotonic()
    if task.program == "evaluate":
        from experiments.ablation.scores import score

        record = score(task.settings, task.test, task.start)._asdict()
    else:
        record = {"metrics": _train(task, str(folder))}
    # ru_maxrss is in kB on Linux, in bytes on macOS.
    unit = 2**10 if sys.platform != "darwin" else 2**20
    cost = {
        "wall_s": round(time.monotonic() - begun, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit),
    }
    record["metrics"] = {**record["metrics"], **cost}
    described = {"stage": task.stage, "program": task.program}
    return described | {"backend": jax.default_backend(), **provenance(), **record}


def _train(task: Any, folder: str) -> dict[str, Any]:
    from experiments.listeners import train_listeners
    from experiments.settings import resolve
    from experiments.stages import train_stage

    settings = resolve(task.settings)
    if task.program == "align":
        results = train_listeners(settings, folder)
    else:
        results = [train_stage(settings, folder)]
    steps = sum(result.step for result in results)
    train_s = sum(result.wall_s for result in results)
    metrics = last_values([row for result in results for row in result.rows])
    cost = {"steps": steps, "train_s": train_s, "s_per_step": train_s / max(steps, 1)}
    return metrics | cost


def last_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the last value of every metric of some rows, costs left out."""
    return {
        name: value
        for row in rows
        for name, value in row.items()
        if "/" in name and isinstance(value, int | float)
        if not name.startswith("run/")
    }


def _stop_with_parent() -> None:
    """Ask this process to stop when the other end of its standard input is gone."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    flags.DEFINE_string("job", None, "What to do, a JSON file.", required=True)
    flags.DEFINE_bool("with_parent", False, "Stop when standard input ends.")
    command.run(main)
