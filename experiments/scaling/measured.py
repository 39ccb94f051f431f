"""Measured points: the same rows a device on one core and on two."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

from experiments.launch.local import free_port
from experiments.provenance import machine, versions
from experiments.scaling.steps import Step

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT_S = 1_800


class Layout(NamedTuple):
    """So many processes, each with devices and cores of its own."""

    name: str
    processes: int
    devices: int  # of each process
    cores: int


LAYOUTS = (
    Layout("one device, one core", 1, 1, 1),
    Layout("two devices of one process, two cores", 1, 2, 2),
    Layout("two processes, a core each", 2, 1, 1),
)


def step(name: str, *, quick: bool) -> Step:
    """Return what is measured: float32, which is what cores have, and few rows."""
    table = {
        "supervised": Step(rows=1, precision="float32"),
        "reward": Step(reward=True, rows=1, group_size=2, precision="float32"),
    }
    return dataclasses.replace(table[name], quick=quick)


def measure(*, quick: bool) -> dict[str, Any]:
    """Time both steps in every layout.

    Raises:
      ValueError: too few cores, or a process that failed.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ValueError(f"this machine has {len(cores)} cores, expected two or more")
    rows = [
        {
            "step": name,
            "layout": layout.name,
            "devices": layout.processes * layout.devices,
            "rows": step(name, quick=quick).rows,
            "seconds": _time(name, layout, cores, quick=quick),
        }
        for name in ("supervised", "reward")
        for layout in LAYOUTS
    ]
    return {"machine": machine(), "versions": versions(), "points": rows}


def _time(name: str, layout: Layout, cores: list[int], *, quick: bool) -> list[float]:
    """Return the seconds of each timed step."""
    count = f"--xla_force_host_platform_device_count={layout.devices}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": count}
    place = (f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2")
    running = []
    for index in range(layout.processes):
        own = cores[index * layout.cores :][: layout.cores]
        words = [sys.executable, "-m", "experiments.scaling.worker", f"--step={name}"]
        words += [f"--cores={','.join(map(str, own))}", f"--quick={quick}"]
        words.append(f"--rounds={1 if quick else 3}")
        if layout.processes > 1:
            words += [*place, f"--process_id={index}"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(
            subprocess.Popen(words, cwd=ROOT, env=environment, text=True, **pipes)
        )
    outputs = [process.communicate(timeout=TIMEOUT_S) for process in running]
    for process, (_, err) in zip(running, outputs, strict=True):
        if process.returncode:
            last = " ".join(err.strip().splitlines()[-1:])
            raise ValueError(f"{name}, {layout.name}, failed: {last}")
    seconds: list[float] = json.loads(outputs[0][0].strip().splitlines()[-1])
    return seconds
