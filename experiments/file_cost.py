"""What separating a file costs: real-time factor and peak memory.

Examples:
  python -m experiments.file_cost --json=file_cost.json
  python -m experiments.file_cost --models=small --lengths=120,7200

Files of coloured noise, 44.1 kHz stereo, go through what `marssep separate` does:
read, resampled, separated window by window, written twice (estimate and residual).
Models have random weights, which costs the same. Each row is a process of its own, and
its clock starts when a file of ten seconds has gone through. The real-time factor is
seconds of work a second of sound. Memory is the process's peak, or the device's where
there is an accelerator.
"""

import multiprocessing
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags

from experiments import command

RATE_HZ, CHANNELS = 44_100, 2
MODELS = ("small", "full")
WARM_UP_S = 10


class Case(NamedTuple):
    """One row: a model, a length in seconds and the windows of a step."""

    model: str
    seconds: int
    window_batch: int


def main() -> None:
    """Measure what the flags name."""
    values = flags.FLAGS
    from experiments.provenance import machine, versions
    from marssep_jax.checkpoint.workdir import write_json
    from marssep_jax.cli_options import check_json

    check_json(values.json)
    unknown = sorted(set(values.models) - set(MODELS))
    if unknown or not values.models:
        known = ", ".join(MODELS)
        raise ValueError(f"--models is {values.models}, expected some of {known}")
    lengths = _numbers("--lengths", values.lengths, WARM_UP_S)
    batches = _numbers("--batches", values.batches, 1)
    rows = []
    for model in values.models:
        for batch in batches:
            for seconds in lengths:
                rows.append(measure_apart(Case(model, seconds, batch)))
                print(table(rows).splitlines()[-1], flush=True)
    print(f"\n{machine()}\n\n{table(rows)}")
    if values.json:
        record = {"machine": machine(), "versions": versions(), "rows": rows}
        write_json(pathlib.Path(values.json), record)


def _numbers(name: str, given: Sequence[str], least: int) -> list[int]:
    try:
        numbers = [int(one) for one in given]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < least:
        raise ValueError(f"{name} is {','.join(given)!r}, expected numbers >= {least}")
    return numbers


def measure_apart(case: Case) -> dict[str, Any]:
    """Measure a case in a process of its own, whose memory is then its alone."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measure, (case,))


def measure(case: Case) -> dict[str, Any]:
    """Separate a file in this process and return its row."""
    import jax
    import numpy as np

    from experiments.benchmarks import separation
    from marssep_jax.config import FrontendConfig, SeparatorConfig
    from marssep_jax.file_jobs import plan_jobs, run_job
    from marssep_jax.inference import Separator
    from marssep_jax.queries import Query

    sizes = {
        "small": (separation.SMALL_FRONTEND, separation.SMALL_SEPARATOR),
        "full": (FrontendConfig(), SeparatorConfig()),
    }
    frontend, network = sizes[case.model]
    bundle = separation.random_bundle(frontend, network)
    separator = Separator(bundle, case.window_batch)
    dim = network.embed_dim
    query = Query(jax.random.normal(jax.random.key(1), (dim,)) / np.sqrt(dim))
    with tempfile.TemporaryDirectory() as place:
        spent = {}
        for seconds in (WARM_UP_S, case.seconds):
            path = pathlib.Path(place) / f"{seconds}.wav"
            write_noise(path, seconds)
            (job,) = plan_jobs([str(path)], f"{place}/out{seconds}", residual=True)
            begun = time.perf_counter()
            run_job(separator, job, query, lambda share: None)
            spent[seconds] = time.perf_counter() - begun
    return {
        "device": jax.devices()[0].device_kind,
        "model": case.model,
        "seconds": case.seconds,
        "windows": case.window_batch,
        "precision": "float32",
        "rtf": spent[case.seconds] / case.seconds,
        "peak_mb": _peak_mb(jax.devices()[0]),
    }


def write_noise(path: pathlib.Path, seconds: int) -> None:
    """Write brownish noise, ten seconds of it again and again, in constant memory."""
    import numpy as np
    import soundfile

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


COLUMNS = ("device", "model", "length, s", "windows", "precision", "RTF", "peak, MB")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Lay rows out as Markdown."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    for row in rows:
        shown = [str(value) for value in list(row.values())[:5]]
        lines.append((*shown, f"{row['rtf']:.4f}", f"{row['peak_mb']:.0f}"))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    flags.DEFINE_list("models", ",".join(MODELS), "small and full, with commas.")
    flags.DEFINE_list("lengths", "60,600", "Seconds of sound, with commas.")
    flags.DEFINE_list("batches", "1,4", "Windows of a step, with commas.")
    flags.DEFINE_string("json", None, "Write the rows to this file.")
    command.run(main)
