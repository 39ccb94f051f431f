"""Separate many files: find them, name their outputs, run them one by one."""

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from marssep_jax.audio import AudioInfo, open_audio
from marssep_jax.audio_writer import AudioWriter
from marssep_jax.inference import Separator
from marssep_jax.optional import reason_of
from marssep_jax.queries import Query
from marssep_jax.streaming import Separation

STANDARD_INPUT = "-"
# What is looked for in folders; a file named by itself may end as it likes.
SUFFIXES = (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")

KINDS = ("target", "residual")

ProgressFn = Callable[[float], None]
WatchFn = Callable[[Separation, float], None]


class Job(NamedTuple):
    """One input and the files it becomes.

    ``residual`` is None if not wanted; ``error`` says why there is nothing to do.
    """

    source: str
    target: Path
    residual: Path | None
    error: str = ""

    @property
    def outputs(self) -> list[Path]:
        """All files that the job writes."""
        return [self.target] + ([self.residual] if self.residual else [])


def is_waiting(job: Job, overwrite: bool) -> bool:
    """Say whether a job is to be run: sound, and not all of its files are there."""
    return not job.error and (
        overwrite or not all(path.exists() for path in job.outputs)
    )


def plan_jobs(
    inputs: Sequence[str], output: str, suffix: str = ".wav", residual: bool = False
) -> list[Job]:
    """List the jobs of files, folders (recursively) and ``-``.

    ``song.mp3`` becomes ``song_target.wav`` and ``song_residual.wav`` in the
    output folder; what lies in a folder keeps its place below it. An input that is
    missing, a folder without recordings, a file whose outputs another one writes or
    would replace an input: a job with an error, so that the others can go on.

    Raises:
      NotADirectoryError: the output is a file.
    """
    root = Path(output)
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"--output is {output!r}, expected a folder")
    jobs = []
    for source, relative, error in _sources(inputs, root):
        stem = root / relative.parent / relative.stem
        names = [stem.with_name(f"{stem.name}_{k}{suffix}") for k in KINDS]
        jobs.append(Job(source, names[0], names[1] if residual else None, error))
    return _distinct(jobs)


def _sources(inputs: Sequence[str], root: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield inputs, their places below the output, and what is wrong with them."""
    for name in inputs:
        label = f"INPUT is {name!r}, expected"
        place = Path(os.path.basename(os.path.abspath(name)))
        if name == STANDARD_INPUT:
            yield name, Path("stdin"), ""
        elif os.path.isdir(name):
            unread: list[OSError] = []
            found = list(_recordings(Path(name), root, unread))
            for error in unread:
                path = str(error.filename)
                reason = f"expected a folder that can be read ({reason_of(error)})"
                yield path, place, f"INPUT is {path!r}, {reason}"
            if not found and not unread:
                kinds = ", ".join(SUFFIXES)
                reason = f"a folder that holds recordings ({kinds}) outside --output"
                yield name, place, f"{label} {reason}"
            for path_found in found:
                yield str(path_found), path_found.relative_to(name), ""
        elif os.path.exists(name):
            yield name, place, ""
        else:
            yield name, place, f"{label} an existing file or folder"


def _recordings(folder: Path, root: Path, unread: list[OSError]) -> Iterator[Path]:
    """Yield recordings below a folder, leaving out hidden files and outputs."""
    skipped = root.resolve()
    for place, folders, files in os.walk(folder, onerror=unread.append):
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


def _distinct(jobs: Sequence[Job]) -> list[Job]:
    """Mark jobs whose files belong to another job."""
    writers: dict[Path, str] = {}
    sources = {Path(job.source).resolve() for job in jobs}
    checked = []
    for job in jobs:
        paths = [] if job.error else [path.resolve() for path in job.outputs]
        error = job.error
        for path in paths:
            if path in writers:
                error = (
                    f"INPUT is {job.source!r}, expected another name than that of "
                    f"{writers[path]!r}: both would write {str(job.target)!r}"
                )
            elif path in sources:
                error = (
                    f"--output is {str(job.target.parent)!r}, expected a folder where "
                    f"{path.name!r} is not an INPUT"
                )
        if not error:
            writers |= dict.fromkeys(paths, job.source)
        checked.append(job._replace(error=error))
    return checked


def run_job(
    separator: Separator,
    job: Job,
    query: Query,
    progress: ProgressFn,
    *,
    mask: str = "mode",
    seed: int = 0,
    per_channel: bool = False,
) -> dict[str, Any]:
    """Separate one file; its outputs appear whole, together, or not at all.

    Args:
      separator: the model.
      job: of `plan_jobs`.
      query: what to separate.
      progress: hears which share of the file is done.
      mask: see `marssep_jax.streaming.stream`.
      seed: see there.
      per_channel: see there.

    Returns:
      The row of the JSON report.

    Raises:
      ValueError, OSError: the input cannot be read or the output written.
    """
    started = time.perf_counter()
    with _opened(job.source) as source, open_audio(source, "INPUT") as reader:
        row = separate_recording(
            separator,
            reader.info,
            reader.blocks(),
            job.outputs,
            query,
            lambda _, share: progress(share),
            mask=mask,
            seed=seed,
            per_channel=per_channel,
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
    per_channel: bool = False,
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
      per_channel: see there.

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
        how: dict[str, Any] = {"mask": mask, "seed": seed, "per_channel": per_channel}
        for part in separator.stream(blocks, info.rate_hz, query, **how):
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


@contextlib.contextmanager
def _opened(source: str) -> Iterator[str | io.BufferedIOBase]:
    """Yield a file name, or what came on standard input, put aside on disk.

    A decoder wants to move back and forth, and a long recording fills no memory so.
    """
    if source != STANDARD_INPUT:
        yield source
        return
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.seek(0)
        raw: Any = file.raw
        raw.name = STANDARD_INPUT  # for messages
        yield file
