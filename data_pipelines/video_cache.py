"""Extract many videos: a file each, by all cores, going on where it stopped."""

import collections
import concurrent.futures
import glob
import hashlib
import multiprocessing
import os
import pathlib
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import numpy as np

from data_pipelines.catalogue import remove_drafts, replacing
from data_pipelines.video_decoding import Extracted, Form, UnreadableError, extract
from data_pipelines.video_sources import Source, stamp

AHEAD = 4
"""Videos handed to each worker before it asks for more."""

DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""What reading half a file raises."""

CRASHED = "the decoder crashed"


class Job(NamedTuple):
    """One video to extract.

    Attributes:
      id: Its name in the list.
      source: Where it is.
      target: File that what is made of it goes to.
    """

    id: str
    source: Source
    target: str


class Cache:
    """A folder of extracted videos."""

    def __init__(self, folder: pathlib.Path, form: Form) -> None:
        self.folder, self.form = folder, form

    def path(self, item_id: str) -> pathlib.Path:
        """Return a video's file; folders hold few of them each."""
        spread = hashlib.sha256(item_id.encode()).hexdigest()[:2]
        return self.folder / spread / f"{item_id.replace('/', '@')}.npz"

    def job(self, item_id: str, source: Source) -> Job:
        """Return what a worker needs to know."""
        return Job(item_id, source, str(self.path(item_id)))

    def load(self, item_id: str) -> Extracted:
        """Read what was made of a video.

        Raises:
          ValueError: it is not there, or damaged.
        """
        path = self.path(item_id)
        try:
            with open(path, "rb") as raw, np.load(raw) as file:
                jpeg, ends = file["jpeg"].tobytes(), file["ends"].tolist()
                frames = tuple(
                    jpeg[a:b] for a, b in zip([0, *ends], ends, strict=False)
                )
                return Extracted(file["audio"], frames, str(file["note"]))
        except DAMAGED as error:
            raise ValueError(
                f"{path} cannot be read, expected an extracted video; delete it and "
                "prepare again"
            ) from error


def save_extracted(path: pathlib.Path, extracted: Extracted, made_from: str) -> None:
    """Write what was made of a video, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez(
            file,
            stamp=np.asarray(made_from),
            note=np.asarray(extracted.note),
            ends=np.cumsum([len(frame) for frame in extracted.frames], dtype=np.int64),
            jpeg=np.frombuffer(b"".join(extracted.frames), np.uint8),
            audio=extracted.audio,
        )


def is_done(job: Job) -> str | None:
    """Return the note of a video that was extracted from the same file, else None."""
    try:
        with open(job.target, "rb") as raw, np.load(raw) as file:
            same = str(file["stamp"]) == stamp(job.source)
            return str(file["note"]) if same else None
    except DAMAGED:
        return None


class Outcome(NamedTuple):
    """What became of a video: why it is unreadable, why it has no pictures."""

    id: str
    unreadable: str = ""
    note: str = ""


def run(job: Job, form: Form) -> Outcome:
    """Extract one video, unless that was done before.

    Raises:
      OSError: the result cannot be written.
    """
    note = is_done(job)
    if note is not None:
        return Outcome(job.id, note=note)
    try:
        extracted, made_from = extract(job.source, form), stamp(job.source)
    except UnreadableError as error:
        return Outcome(job.id, unreadable=str(error))
    except OSError as error:
        return Outcome(job.id, unreadable=error.strerror or str(error))
    save_extracted(pathlib.Path(job.target), extracted, made_from)
    return Outcome(job.id, note=extracted.note)


def extract_all(
    jobs: Sequence[Job],
    form: Form,
    workers: int | None = None,
    on_done: Callable[[int], None] = lambda done: None,
) -> Iterator[Outcome]:
    """Extract videos, in whatever order they get ready.

    Args:
      jobs: The videos.
      form: What is made of each.
      workers: Processes; None takes the cores, 1 works in this one.
      on_done: Called with the number of those that are done.

    Raises:
      OSError: a result cannot be written; those before it stay.
    """
    count = min(workers or _cores(), max(1, len(jobs)))
    outcomes = map(lambda job: run(job, form), jobs) if count == 1 else None
    for done, outcome in enumerate(outcomes or _by_workers(jobs, form, count), 1):
        on_done(done)
        yield outcome


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # fewer than the machine has, in a container
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _by_workers(jobs: Sequence[Job], form: Form, count: int) -> Iterator[Outcome]:
    """Hand videos out; where one brings a worker down, find out which."""
    waiting = collections.deque(jobs)
    while waiting:
        under_way: dict[concurrent.futures.Future, Job] = {}
        pool = _pool(count)
        try:
            while waiting or under_way:
                while waiting and len(under_way) < AHEAD * count:
                    under_way[_submit(pool, waiting[0], form)] = waiting[0]
                    waiting.popleft()
                yield from _finished(under_way)
        except BrokenProcessPool:
            suspects = list(under_way.values())
        else:
            suspects = []
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        for job in suspects:
            yield _alone(job, form)


def _finished(
    under_way: dict[concurrent.futures.Future, Job],
) -> Iterator[Outcome]:
    done, _ = concurrent.futures.wait(
        under_way, return_when=concurrent.futures.FIRST_COMPLETED
    )
    for future in done:
        outcome = future.result()
        del under_way[future]
        yield outcome


def _alone(job: Job, form: Form) -> Outcome:
    """Extract what was under way when a worker crashed.

    The crash took the other workers along, in the middle of their files.
    """
    try:
        with _pool(1) as pool:
            return _submit(pool, job, form).result()
    except BrokenProcessPool:
        return Outcome(job.id, unreadable=CRASHED)
    finally:
        target = pathlib.Path(job.target)
        remove_drafts(target.parent, glob.escape(target.name))


def _pool(count: int) -> concurrent.futures.ProcessPoolExecutor:
    """Start fresh interpreters: those of TensorFlow and JAX do not survive a fork."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(count, context, _begin)


def _submit(
    pool: concurrent.futures.ProcessPoolExecutor, job: Job, form: Form
) -> concurrent.futures.Future:
    """Hand a video out; a pool starts its workers as work comes in.

    Ctrl-C reaches the whole group of processes. Workers finish their files and leave
    the rest to this one; they inherit what is blocked while they start.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(run, job, form)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _begin() -> None:
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """End with the parent, even if that is killed and cannot say so."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
