"""The rows of an evaluation: one file, a line a target, written as it goes.

A row is a JSON object: ``run`` (a hash of checkpoints, manifest and settings),
``batch`` and ``of`` (which batch it belongs to, and how many rows that has),
``system``, ``kind``, ``mixture``, ``target`` (number of the source), ``label``
(class), ``status`` (``scored``, ``silent`` target, ``unasked`` or ``missing``
estimate) and, where it is scored, the metrics; ``absent_db`` stands with the first
target of its mixture.

A batch's rows are appended by one call. A batch is in the file as a whole or is
scored again, so that an evaluation that was stopped goes on where it was.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from marssep_jax.evaluation import Evaluation
from marssep_jax.row_file import append_whole

Row = dict[str, Any]

KEYS = (
    *("run", "batch", "of", "system", "kind", "mixture", "target", "label"),
    "status",
)
"""What stands in a row beside its metrics."""

FORMAT = 1
"""Raised when rows come to mean something else."""

PER_MIXTURE = "absent_db"


class Run(NamedTuple):
    """What rows belong to: a short hash of each thing that they depend on."""

    checkpoint: str
    manifest: str
    settings: str

    def __str__(self) -> str:
        """Return it as rows carry it."""
        return "-".join(self)


def hash_of(*values: Any) -> str:
    """Return a short hash of plain values."""
    text = json.dumps([FORMAT, *values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class RowsFile:
    """A file of rows that is being written; a context manager.

    ``done`` are the batches that it holds whole.
    """

    def __init__(self, path: pathlib.Path, run: Run) -> None:
        """Open a new file, or one that the same evaluation left behind.

        Raises:
          ValueError: rows of another evaluation, other contents, or a file that
            another process is writing.
          OSError: a folder that is not there or cannot be written.
        """
        self.path, self._run = path, run
        try:
            self._lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ValueError(
                f"rows is {str(path)!r}, expected a file in an existing folder "
                f"({error.strerror})"
            ) from error
        try:
            _lock(self._lock, path)
            self.done = whole_batches(path, run)
            self._drop_the_rest()
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> "RowsFile":
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; one that nothing was written to is taken away."""
        with contextlib.suppress(OSError):
            if not os.fstat(self._lock).st_size:
                os.unlink(self.path)
        os.close(self._lock)

    def append(self, batch: int, rows: Sequence[Row]) -> None:
        """Write the rows of a batch.

        Raises:
          OSError: no room; the file then ends with the batch before.
        """
        head = {"run": str(self._run), "batch": batch, "of": len(rows)}
        lines = (json.dumps(head | row) + "\n" for row in rows)
        append_whole(self.path, "".join(lines).encode())

    def _drop_the_rest(self) -> None:
        """Take away what a crash of the machine left of a batch.

        Whole batches stay where they are: the file is locked, not replaced.
        """
        with open(self.path, "r+b") as file:
            end = read = 0
            for line in file:
                read += len(line)
                with contextlib.suppress(ValueError):
                    if json.loads(line)["batch"] in self.done:
                        end = read
            file.truncate(end)


def _lock(handle: int, path: pathlib.Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ValueError(
            f"rows is {str(path)!r}, expected a file that no other process writes"
        ) from error


def read_rows(path: pathlib.Path, run: Run) -> Iterator[Row]:
    """Yield the rows of a file, a line at a time.

    The last line may have been cut by a crash of the machine; it is passed over.

    Raises:
      ValueError: no such file, other contents, or rows of another evaluation.
    """
    wanted, label = str(run), f"rows is {str(path)!r}"
    head = json.dumps({"run": wanted})[:-1].encode()
    try:
        file = open(path, "rb")  # noqa: SIM115  closed below
    except OSError as error:
        raise ValueError(f"{label}, expected a file ({error.strerror})") from error
    with file:
        for line in file:
            try:
                row = json.loads(line)
                there = row["run"]
            except (ValueError, KeyError, TypeError) as error:
                if line[: len(head)] == head[: len(line)] and line[-1:] != b"\n":
                    return
                raise ValueError(
                    f"{label}, expected rows of an evaluation or a new file"
                ) from error
            if there != wanted:
                raise ValueError(
                    f"{label}, expected rows of this evaluation, but its "
                    f"{_difference(there, run)}: use another file"
                )
            yield row


def _difference(there: Any, run: Run) -> str:
    parts = str(there).split("-")
    if len(parts) != len(run):
        return f"rows are those of {there!r}, not of {str(run)!r}"
    names = [
        f"{name} was {old}, not {new}"
        for name, old, new in zip(run._fields, parts, run, strict=True)
        if old != new
    ]
    return " and its ".join(names)


def whole_batches(path: pathlib.Path, run: Run) -> set[int]:
    """Return the batches that a file holds all rows of; raises as `read_rows`."""
    found: Counter[int] = Counter()
    sizes: dict[int, int] = {}
    for row in read_rows(path, run):
        found[row["batch"]] += 1
        sizes[row["batch"]] = row["of"]
    return {batch for batch, size in sizes.items() if found[batch] == size}


def read_all(
    paths: Sequence[pathlib.Path], run: Run, num_batches: int
) -> Iterator[Row]:
    """Yield the rows of an evaluation that is complete, from all of its files.

    Raises:
      ValueError: as `read_rows`, or a batch that no file holds.
    """
    found = [whole_batches(path, run) for path in paths]
    missing = set(range(num_batches)).difference(*found)
    if missing:
        raise ValueError(
            f"rows is {', '.join(map(str, paths))!r}, expected all {num_batches} "
            f"batches in it, but {len(missing)} are missing: a share is not done"
        )
    for path in paths:
        yield from read_rows(path, run)


class Scored(NamedTuple):
    """Everything that rows say of one system, and which of its estimates lacked."""

    evaluation: Evaluation
    missing: tuple[str, ...]


def collect(rows: Iterable[Row], names: Sequence[str]) -> dict[str, Scored]:
    """Arrange rows by system, whatever order they come in.

    Args:
      rows: of one evaluation, once each.
      names: the manifest's mixtures.

    Returns:
      Scores by system; their arrays are all that is kept of the rows.
    """
    where = {name: number for number, name in enumerate(names)}
    tables: dict[str, _Table] = {}
    for row in rows:
        table = tables.setdefault(row["system"], _Table(len(names)))
        table.add(where[row["mixture"]], row)
    return {name: table.scored(tuple(names)) for name, table in tables.items()}


class _Table:
    """Scores of one system, filled row by row."""

    def __init__(self, num_mixtures: int) -> None:
        self._num = num_mixtures
        self._label = np.full((num_mixtures, 1), -1)
        self._scores: dict[str, dict[str, np.ndarray]] = {}
        self._silent: set[tuple[int, int]] = set()
        self._missing: list[tuple[int, int, str]] = []

    def add(self, at: int, row: Row) -> None:
        """Take a row in."""
        target, kind = row["target"], row["kind"]
        self._label = _wide(self._label, target, -1)
        self._label[at, target] = row["label"]
        if row["status"] == "silent":
            self._silent.add((at, target))
        elif row["status"] == "missing":
            self._missing.append((at, target, row["mixture"]))
        scores = self._scores.setdefault(kind, {})
        for name in ("si_sdr_db", *(key for key in row if key not in KEYS)):
            table = scores.get(name)
            if table is None:
                table = np.full((self._num, 1), np.nan)
            scores[name] = _wide(table, 0 if name == PER_MIXTURE else target, np.nan)
            if row.get(name) is not None:
                scores[name][at, target] = row[name]

    def scored(self, names: tuple[str, ...]) -> Scored:
        """Return all of it."""
        width = self._label.shape[1]
        scores = {
            kind: {
                name: table if name == PER_MIXTURE else _wide(table, width - 1, np.nan)
                for name, table in sorted(tables.items())
            }
            for kind, tables in self._scores.items()
        }
        missing = tuple(f"{name}/{target}" for _, target, name in sorted(self._missing))
        found = Evaluation(names, self._label, scores, len(self._silent))
        return Scored(found, missing)


def _wide(table: np.ndarray, column: int, value: Any) -> np.ndarray:
    """Return a table that has a column."""
    missing = column + 1 - table.shape[1]
    if missing <= 0:
        return table
    return np.pad(table, [(0, 0), (0, missing)], constant_values=value)
