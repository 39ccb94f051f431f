"""What separating a file costs: real-time factor, first output, peak memory.

Files of coloured noise, 44.1 kHz stereo, go through what `marssep separate` does:
read, resampled, separated window by window, written twice (estimate and residual).
Models have random weights, which costs the same. Each case is a process of its own, and
its clock starts when a file of ten seconds has gone through. The real-time factor is
seconds of work a second of sound, of the best of a few rounds where the file is short.
Memory is the process's peak, or the device's where there is an accelerator.
"""

import multiprocessing
import pathlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import soundfile

from experiments.benchmarks import separation
from experiments.benchmarks.rows import Row, ratio_row
from experiments.benchmarks.timing import Timing
from marssep_jax.config import FrontendConfig, SeparatorConfig
from marssep_jax.file_jobs import plan_jobs, run_job
from marssep_jax.inference import Separator
from marssep_jax.queries import Query

RATE_HZ, CHANNELS = 44_100, 2
WARM_UP_S = 10
LONGEST_IN_ROUNDS_S = 180
MODELS = {
    "small": (separation.SMALL_FRONTEND, separation.SMALL_SEPARATOR),
    "full": (FrontendConfig(), SeparatorConfig()),
    "tiny": (separation.SMALL_FRONTEND, separation.TINY_SEPARATOR),  # for tests
}


class Case(NamedTuple):
    """A model, a length in seconds and the windows of a step."""

    model: str
    seconds: int
    window_batch: int


CASES = {
    "files.small_rtf": Case("small", 60, 1),
    "files.small_by_4_rtf": Case("small", 60, 4),
    "files.full_rtf": Case("full", 60, 1),
    "files.full_by_4_rtf": Case("full", 60, 4),
}
NAMES = tuple(CASES)
TARGETS = {"files.full_rtf": 10.0}
"""Ten seconds of sound a second, on two cores."""


def measure(tiny: bool) -> list[Row]:
    """Separate files of a minute, window by window and four windows at a time."""
    rows = []
    for name, case in CASES.items():
        if tiny:
            case = Case("tiny", WARM_UP_S, case.window_batch)
        cost = measure_apart(case)
        ours, real_time = Timing(tuple(cost.pop("rtfs"))), "the sound's own length"
        theirs = Timing((1.0,) * len(ours.seconds))
        row = ratio_row(name, ours, real_time, theirs, target=TARGETS.get(name), **cost)
        rows.append(row)
    return rows


def measure_apart(case: Case) -> dict[str, Any]:
    """Measure a case in a process of its own, whose memory is then its alone.

    Returns:
      ``device``, ``model``, ``seconds``, ``windows``, ``precision``, ``rtfs`` of each
      round, ``first_s`` until the first samples of a file are there, ``peak_mb``.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measure_here, (case,))


def measure_here(case: Case) -> dict[str, Any]:
    """Separate a file in this process; see `measure_apart`."""
    frontend, network = MODELS[case.model]
    separator = Separator(
        separation.random_bundle(frontend, network), case.window_batch
    )
    dim = network.embed_dim
    query = Query(jax.random.normal(jax.random.key(1), (dim,)) / np.sqrt(dim))
    with tempfile.TemporaryDirectory() as place:
        long, short = (
            pathlib.Path(place) / f"{name}.wav" for name in ("long", "short")
        )
        write_noise(long, case.seconds)
        write_noise(short, WARM_UP_S)
        _spent(separator, short, query)
        rounds = max(1, LONGEST_IN_ROUNDS_S // case.seconds)
        rtfs = [
            _spent(separator, long, query) / case.seconds for _ in range(min(rounds, 5))
        ]
        begun = time.perf_counter()
        next(separator.stream(str(long), query=query))
        first_s = time.perf_counter() - begun
    return {
        "device": jax.devices()[0].device_kind,
        "model": case.model,
        "seconds": case.seconds,
        "windows": case.window_batch,
        "precision": "float32",
        "rtfs": rtfs,
        "first_s": first_s,
        "peak_mb": _peak_mb(jax.devices()[0]),
    }


def _spent(separator: Separator, path: pathlib.Path, query: Query) -> float:
    """Separate a file into its folder and return the seconds that it took."""
    (job,) = plan_jobs([str(path)], str(path.parent / "out"), residual=True)
    begun = time.perf_counter()
    run_job(separator, job, query, lambda share: None)
    return time.perf_counter() - begun


def write_noise(path: pathlib.Path, seconds: int) -> None:
    """Write brownish noise, ten seconds of it again and again, in constant memory."""
    steps = np.random.default_rng(0).normal(size=(10 * RATE_HZ, CHANNELS))
    sound = np.cumsum(steps, axis=0)
    sound = 0.3 * (sound - sound.mean(axis=0)) / np.abs(sound).max()
    left = seconds * RATE_HZ
    with soundfile.SoundFile(path, "w", RATE_HZ, CHANNELS, subtype="PCM_16") as file:
        while left > 0:
            file.write(sound[:left])
            left -= len(sound)


def _peak_mb(device: Any) -> float:
    import resource

    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats:
        return stats["peak_bytes_in_use"] / 2**20
    # ru_maxrss is in kB on Linux, in bytes on macOS.
    unit = 2**10 if sys.platform != "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


COLUMNS = {
    "device": "device",
    "model": "model",
    "seconds": "length, s",
    "windows": "windows a step",
    "precision": "precision",
}


def cost_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out as Markdown what of these rows is the cost of a file, "" if none is.

    ``rtfs`` are those of `measure_apart`, or ``ours_s`` the best of them.
    """
    lines = [(*COLUMNS.values(), "RTF", "first output, s", "peak, MB")]
    lines.append(("---",) * len(lines[0]))
    for row in rows:
        if "peak_mb" in row:
            rtf = min(row["rtfs"]) if "rtfs" in row else row["ours_s"]
            lines.append(
                (
                    *(str(row[name]) for name in COLUMNS),
                    *(f"{rtf:.4f}", f"{row['first_s']:.2f}", f"{row['peak_mb']:.0f}"),
                )
            )
    if len(lines) == 2:
        return ""
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
