"""Separate many files: find them, name their outputs, run them one by one."""

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from marssep_jax.audio import AudioInfo, open_audio
from marssep_jax.audio_writer import AudioWriter
from marssep_jax.inference import Separator
from marssep_jax.queries import Query
from marssep_jax.streaming import Separation

STANDARD_INPUT = "-"
# What is looked for in folders; a file named by itself may end as it likes.
SUFFIXES = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")

KINDS = ("target", "residual")

ProgressFn = Callable[[float], None]
WatchFn = Callable[[Separation, float], None]


class Job(NamedTuple):
    """One input and the files it becomes. ``residual`` is None if not wanted."""

    source: str
    target: Path
    residual: Path | None

    @property
    def outputs(self) -> list[Path]:
        """All files that the job writes."""
        return [self.target] + ([self.residual] if self.residual else [])


def plan_jobs(
    inputs: Sequence[str], output: str, suffix: str = ".wav", residual: bool = False
) -> list[Job]:
    """List the jobs of files, folders (recursively) and ``-``.

    ``song.mp3`` becomes ``song_target.wav`` and ``song_residual.wav`` in the
    output folder; what lies in a folder keeps its place below it.

    Raises:
      FileNotFoundError: an input that does not exist.
      ValueError: a folder without recordings, two inputs that would write one
        file, an output that would replace an input.
      NotADirectoryError: the output is a file.
    """
    root = Path(output)
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"--output is {output!r}, expected a folder")
    jobs = []
    for source, relative in _sources(inputs, root):
        stem = root / relative.parent / relative.stem
        names = [stem.with_name(f"{stem.name}_{k}{suffix}") for k in KINDS]
        jobs.append(Job(source, names[0], names[1] if residual else None))
    _require_distinct(jobs)
    return jobs


def _sources(inputs: Sequence[str], root: Path) -> Iterator[tuple[str, Path]]:
    for name in inputs:
        if name == STANDARD_INPUT:
            yield name, Path("stdin")
        elif os.path.isdir(name):
            found = list(_recordings(Path(name), root))
            if not found:
                raise ValueError(
                    f"INPUT is {name!r}, expected a folder that holds recordings "
                    f"({', '.join(SUFFIXES)}) outside --output"
                )
            for path in found:
                yield str(path), path.relative_to(name)
        elif os.path.exists(name):
            yield name, Path(os.path.basename(name))
        else:
            raise FileNotFoundError(
                f"INPUT is {name!r}, expected an existing file or folder"
            )


def _recordings(folder: Path, root: Path) -> Iterator[Path]:
    """Yield recordings below a folder, leaving out hidden files and outputs."""
    skipped = root.resolve()
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (Path(place) / name).resolve() != skipped
        )
        if Path(place).resolve() == skipped:
            continue
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(place) / name


def _require_distinct(jobs: Sequence[Job]) -> None:
    writers: dict[Path, str] = {}
    sources = {Path(job.source).resolve(): job.source for job in jobs}
    for job in jobs:
        for path in job.outputs:
            resolved = path.resolve()
            if resolved in writers:
                raise ValueError(
                    f"INPUT is {job.source!r}, expected another name than that of "
                    f"{writers[resolved]!r}: both would write {str(path)!r}"
                )
            if resolved in sources:
                raise ValueError(
                    f"--output is {str(path.parent)!r}, expected a folder where "
                    f"{path.name!r} is not an INPUT"
                )
            writers[resolved] = job.source


def run_job(
    separator: Separator,
    job: Job,
    query: Query,
    progress: ProgressFn,
    *,
    mask: str = "mode",
    seed: int = 0,
) -> dict[str, Any]:
    """Separate one file; its outputs appear whole, together, or not at all.

    Args:
      separator: the model.
      job: of `plan_jobs`.
      query: what to separate.
      progress: hears which share of the file is done.
      mask: see `marssep_jax.streaming.stream`.
      seed: see there.

    Returns:
      The row of the JSON report.

    Raises:
      ValueError, OSError: the input cannot be read or the output written.
    """
    started = time.perf_counter()
    with open_audio(_opened(job.source), "INPUT") as reader:
        row = separate_recording(
            separator,
            reader.info,
            reader.blocks(),
            job.outputs,
            query,
            lambda _, share: progress(share),
            mask=mask,
            seed=seed,
        )
    return {
        "input": job.source,
        "status": "done",
        "target": str(job.target),
        "residual": str(job.residual) if job.residual else None,
        **row,
        "wall_s": round(time.perf_counter() - started, 3),
    }


def separate_recording(
    separator: Separator,
    info: AudioInfo,
    blocks: Iterable[Float[np.ndarray, "c _"]],
    outputs: Sequence[Path],
    query: Query,
    watch: WatchFn,
    *,
    mask: str = "mode",
    seed: int = 0,
) -> dict[str, Any]:
    """Separate a recording into files that appear whole, together, or not at all.

    Args:
      separator: the model.
      info: what the recording's header says.
      blocks: its samples ``[channels, any]``.
      outputs: file names of the estimate and, if wanted, the residual.
      query: what to separate.
      watch: gets every part, and the share of the recording that is done.
      mask: see `marssep_jax.streaming.stream`.
      seed: see there.

    Returns:
      Rate, channels, length, and whether the recording is silent or its estimate
      clips.

    Raises:
      ValueError, OSError: the input cannot be read or the output written.
    """
    num_samples, peak = 0, 0.0
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                AudioWriter(
                    path,
                    info.rate_hz,
                    info.num_channels,
                    info.subtype,
                    info.num_samples,
                )
            )
            for path in outputs
        ]
        for part in separator.stream(blocks, info.rate_hz, query, mask=mask, seed=seed):
            for writer, block in zip(
                writers, (part.estimate, part.residual), strict=False
            ):
                writer.write(block)
            num_samples += part.estimate.shape[1]
            peak = np.abs(part.estimate + part.residual).max(initial=peak)
            watch(part, num_samples / max(info.num_samples, num_samples))
        for writer in writers:
            writer.finish()
    return {
        "sample_rate_hz": info.rate_hz,
        "channels": info.num_channels,
        "num_samples": num_samples,
        "silent": bool(peak == 0.0),
        "clipped_samples": sum(writer.num_clipped for writer in writers),
    }


def _opened(source: str) -> str | io.BytesIO:
    if source != STANDARD_INPUT:
        return source
    data = io.BytesIO(sys.stdin.buffer.read())
    data.name = STANDARD_INPUT
    return data
