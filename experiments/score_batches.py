"""Score every system on every mixture, batch by batch, on the devices there are.

The manifest is cut into batches of one size, always the same. A batch is scored as a
whole, by one program, on one device: whoever takes it, the numbers are the same bit
for bit, so that hosts and devices may share the batches in any way. Only the batches
at work are in memory.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import scoring
from experiments.embeddings import checked_sources
from experiments.score_rows import PER_MIXTURE, Row, RowsFile
from experiments.systems import Entries, System
from marssep_jax import interrupts
from marssep_jax.evaluation import ABSENT_KIND, BATCH_SIZE, Batch, Scorer, measure
from marssep_jax.metric_log import plain


class Work(NamedTuple):
    """What is to be scored: mixtures, systems, and who listens."""

    tests: scoring.TestSet
    systems: Sequence[System]
    scorers: Sequence[Scorer]

    @property
    def mixtures(self) -> list[dict[str, Any]]:
        """Return the manifest's mixtures."""
        return self.tests.manifest["mixtures"]

    @property
    def batch_size(self) -> int:
        """Return how many mixtures make a batch."""
        return min(BATCH_SIZE, len(self.mixtures))

    @property
    def num_batches(self) -> int:
        """Return the number of batches."""
        return -(-len(self.mixtures) // self.batch_size)

    def batch(self, number: int) -> list[dict[str, Any]]:
        """Return the mixtures of a batch; the last one may have fewer."""
        start = number * self.batch_size
        return self.mixtures[start : start + self.batch_size]


class _Heard(NamedTuple):
    """What a batch's estimates by one system score; the estimates are let go."""

    system: System
    asked: np.ndarray
    left_db: jax.Array | None
    scores: Mapping[str, jax.Array]
    is_finite: jax.Array


class _Pending(NamedTuple):
    """A batch whose scores are on their way."""

    number: int
    entries: Entries
    silent: np.ndarray
    found: list[_Heard]


def score(
    work: Work,
    file: RowsFile,
    batches: Sequence[int],
    *,
    on_batch: Callable[[int], None] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> None:
    """Score batches and append their rows, in order.

    Args:
      work: mixtures, systems and scorers.
      file: takes the rows; batches that it has are passed over.
      batches: numbers of those to score.
      on_batch: hears how many mixtures were scored.
      devices: that take batches in turn; None takes all of this process.

    Raises:
      ValueError: audio that is not what the manifest says, or estimates that are not
        finite or do not fit.
    """
    devices = jax.local_devices() if devices is None else devices
    captions = scoring.captions_of(work.tests.manifest, work.tests.data.catalogue)
    pending: deque[_Pending] = deque()
    scored = 0

    def take() -> None:
        nonlocal scored
        batch = pending.popleft()
        file.append(batch.number, list(_rows(batch)))
        scored += len(batch.entries)
        if on_batch is not None:
            on_batch(scored)

    missing = [number for number in batches if number not in file.done]
    for turn, number in enumerate(missing):
        interrupts.check()
        device = devices[turn % len(devices)]
        pending.append(_launch(work, number, captions, device))
        if len(pending) > len(devices):  # one more, so that no device waits for us
            take()
    while pending:
        interrupts.check()
        take()


def _launch(
    work: Work,
    number: int,
    captions: Mapping[str, Sequence[str]],
    device: jax.Device,
) -> _Pending:
    """Put a batch on a device and set everything going."""
    entries = work.batch(number)
    # The last batch is filled up, so that nothing compiles twice.
    filled = entries + entries[-1:] * (work.batch_size - len(entries))
    catalogue = work.tests.data.catalogue
    whole = np.stack([checked_sources(entry, catalogue) for entry in filled])
    target = jax.device_put(whole, device)
    scored = slice(work.tests.manifest.get("scored_samples"))
    batch = Batch(
        target[..., scored],
        np.asarray([[s["label"] for s in entry["sources"]] for entry in filled]),
        [captions[entry["id"]] for entry in filled],
    )
    found = []
    for system in work.systems:
        made = system.estimate(number, filled, target)
        estimate = made.estimate[..., scored]
        # One kind at a time: one program for all systems, so that equal waveforms
        # have equal scores, and no more memory for more kinds.
        parts = [
            measure(estimate[:, index : index + 1], batch, work.scorers)
            for index in range(len(system.kinds))
        ]
        scores = jax.tree.map(lambda *kinds: jnp.concatenate(kinds, axis=1), *parts)
        finite = jnp.isfinite(estimate).all()
        found.append(_Heard(system, made.asked, made.left_db, scores, finite))
    silent = np.abs(whole[..., scored]).max(axis=-1) == 0
    return _Pending(number, entries, silent, found)


def _rows(batch: _Pending) -> list[Row]:
    """Wait for a batch's scores and lay them out, mixture by mixture."""
    for heard in batch.found:
        if not bool(heard.is_finite):
            raise ValueError(
                f"estimates of {heard.system.title!r} hold NaN or infinite samples, "
                "expected finite ones"
            )
    found = [jax.device_get(heard.scores) for heard in batch.found]
    left = [jax.device_get(heard.left_db) for heard in batch.found]
    rows = []
    for at, entry in enumerate(batch.entries):
        for heard, scores, left_db in zip(batch.found, found, left, strict=True):
            for index, kind in enumerate(heard.system.kinds):
                for target, source in enumerate(entry["sources"]):
                    place = (at, index, target)
                    row: Row = {
                        "system": heard.system.name,
                        "kind": kind,
                        "mixture": entry["id"],
                        "target": target,
                        "label": source["label"],
                        "status": _status(batch, heard, place),
                    }
                    if row["status"] == "scored":
                        row |= {n: plain(v[place]) for n, v in sorted(scores.items())}
                    if left_db is not None and kind == ABSENT_KIND and target == 0:
                        row[PER_MIXTURE] = plain(left_db[at])
                    rows.append(row)
    return rows


def _status(batch: _Pending, heard: _Heard, place: tuple[int, int, int]) -> str:
    at, _, target = place
    if batch.silent[at, target]:
        return "silent"
    if not batch.entries[at]["queries"][target]:  # nobody asks for this source
        return "unasked"
    return "scored" if heard.asked[place] else heard.system.lacks
