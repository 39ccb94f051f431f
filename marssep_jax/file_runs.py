"""Run the jobs of ``marssep separate`` in turn, and say what became of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from marssep_jax import interrupts
from marssep_jax.file_jobs import Job, is_waiting, run_job
from marssep_jax.terminal import Progress, complain, line_of, wants_traceback

WHO = "marssep separate"
STATUSES = {"done": "separated", "skipped": "skipped", "failed": "failed"}


def run_jobs(
    separator: Any, jobs: Sequence[Job], query: Any, overwrite: bool, **how: Any
) -> Iterator[dict[str, Any]]:
    """Run jobs; one that fails is reported, and the others go on.

    Args:
      separator: the model; None if no job `is_waiting`.
      jobs: of `plan_jobs`.
      query: what to separate.
      overwrite: whether existing outputs are replaced.
      how: mask, seed and per_channel of `run_job`.

    Yields:
      The row of each job as soon as it is known: ``input``, ``status`` ("done",
      "skipped" or "failed") and what `run_job` says, or ``error``.
    """
    counts: Counter[str] = Counter()
    for number, job in enumerate(jobs, 1):
        interrupts.check()
        if job.error:
            row = _failed(job, job.error)
        elif not is_waiting(job, overwrite):
            print(f"{job.source}: skipped, {job.target} exists (see --overwrite)")
            row = {"input": job.source, "status": "skipped", "target": str(job.target)}
        else:
            place = f"[{number}/{len(jobs)}] " if len(jobs) > 1 else ""
            row = _run_one(separator, job, query, Progress(job.source, place), how)
        counts[row["status"]] += 1
        yield row
    interrupts.check()
    if len(jobs) > 1:
        said = [
            f"{counts[key]} {word}" for key, word in STATUSES.items() if counts[key]
        ]
        print(", ".join(said))


def _run_one(
    separator: Any, job: Job, query: Any, bar: Progress, how: dict[str, Any]
) -> dict[str, Any]:
    try:
        row = run_job(separator, job, query, bar.show, **how)
    except Exception as error:
        bar.clear()
        if wants_traceback():
            raise
        expected = isinstance(error, (ValueError, OSError))
        named = "" if expected else f"INPUT is {job.source!r}, which ended in "
        return _failed(job, f"{named}{line_of(error)}")
    finally:
        bar.clear()
    notes = ", silent" if row["silent"] else ""
    if row["clipped_samples"]:
        notes += f", {row['clipped_samples']} samples clipped at full scale"
    print(f"{job.source} -> {job.target} ({row['wall_s']:.1f} s{notes})", flush=True)
    return row


def _failed(job: Job, line: str) -> dict[str, Any]:
    complain(WHO, line)
    return {"input": job.source, "status": "failed", "error": line}
