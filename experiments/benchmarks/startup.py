"""How long a program takes to say something, and to train its first step."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from experiments.benchmarks.rows import NotMeasuredError, Row, ratio_row
from experiments.benchmarks.timing import alternate

NAMES = ("startup.cli_help", "startup.first_step")

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "experiments/configs/debug.py"
LIBRARIES = "jax, flax.linen, optax, orbax.checkpoint, tensorflow"
TIMEOUT_S = 300.0
LOOK_S = 0.01


def measure(tiny: bool) -> list[Row]:
    """Start programs, with what they compiled before still in a cache."""
    times = alternate(
        {
            "ours": lambda: _run("-m", "marssep_jax.cli", "--help"),
            "reference": lambda: _run("-c", "import jax"),
        },
        1 if tiny else 5,
    )
    help_row = ratio_row(
        NAMES[0], times["ours"], "python -c 'import jax'", times["reference"]
    )
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        _first_step(cache)
        cold_s = time.perf_counter() - start
        times = alternate(
            {
                "ours": lambda: _first_step(cache),
                "reference": lambda: _run("-c", f"import {LIBRARIES}"),
            },
            1 if tiny else 3,
        )
    step_row = ratio_row(
        NAMES[1],
        times["ours"],
        f"python -c 'import {LIBRARIES}'",
        times["reference"],
        nothing_compiled_before_s=cold_s,
    )
    return [help_row, step_row]


def _run(*arguments: str) -> None:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=TIMEOUT_S)
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise NotMeasuredError(f"{' '.join(arguments)} failed: {' '.join(message)}")


def _first_step(cache: str) -> None:
    """Train until the row of the first step is on disk."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "experiments.train", f"--config={CONFIG}"]
        command += [f"--workdir={workdir}", "--config.training.log_every=1"]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
        with _started(command, environment) as process:
            deadline = time.monotonic() + TIMEOUT_S
            rows = pathlib.Path(workdir) / "metrics.jsonl"
            while not (rows.is_file() and b"\n" in rows.read_bytes()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NotMeasuredError("experiments.train ended before a step")
                time.sleep(LOOK_S)


@contextlib.contextmanager
def _started(
    command: list[str], environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program that is stopped at the end."""
    silent = subprocess.DEVNULL
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=silent, stderr=silent
    ) as process:
        try:
            yield process
        finally:
            process.kill()
