"""Rows of numbers on disk: a folder of shards, each of them whole or not there.

``header.json`` says what the rows are and what they were made of. The rows of a table
lie in ``TABLE_00003_HEADER.npy``, a thousand in each, where HEADER is a hash of the
header: whoever writes after a folder was begun anew for other data writes beside it.
Nothing is locked. Processes that share the work, on one machine or on several, each
take every N-th shard, and whatever a kill left out is made by the next call.
"""

import dataclasses
import functools
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from marssep_jax import interrupts
from marssep_jax.folders import remove_partial_files, replace_file

FORMAT = "marssep-rows"
FORMAT_VERSION = 1
RECORD = "header.json"
SHARD_ROWS = 1_024
"""What a kill costs at most, and how many rows are written at once."""

ComputeFn = Callable[[slice], Any]


@dataclasses.dataclass(frozen=True)
class Header:
    """What the rows of a folder are.

    Attributes:
      kind: what an error calls them, a plural.
      encoder: hash of what made them.
      data: hash of what they were made of.
      tables: shape of each table, rows first.
      dtype: NumPy's name of their type.
      shard_rows: rows of a shard; the last one of a table may have fewer.
    """

    kind: str
    encoder: str
    data: str
    tables: Mapping[str, tuple[int, ...]]
    dtype: str = "float32"
    shard_rows: int = SHARD_ROWS

    def record(self) -> dict[str, Any]:
        """Return what ``header.json`` says."""
        found: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
        found |= dataclasses.asdict(self)
        return json.loads(json.dumps(found))  # as it will be read


class RowCache:
    """Tables of rows in a folder, filled shard by shard and read whole."""

    def __init__(self, folder: str | os.PathLike[str], header: Header) -> None:
        """Describe a folder, which need not exist; nothing is written yet."""
        self.folder = Path(folder)
        self.header = header

    def missing(self, name: str, shard: int = 0, shards: int = 1) -> list[slice]:
        """Return the rows of a table that are not there, a slice for each shard.

        Args:
          name: the table.
          shard: the share of the work to look at, from 0.
          shards: how many shares there are.

        Raises:
          ValueError: the folder holds other rows.
        """
        self._require_own()
        return [
            rows
            for number, rows in self._shards(name)
            if number % shards == shard and self._open(name, rows) is None
        ]

    def count_missing(self, shard: int = 0, shards: int = 1) -> int:
        """Return how many rows are not there, of all tables.

        Raises:
          ValueError: the folder holds other rows.
        """
        return sum(
            rows.stop - rows.start
            for name in self.header.tables
            for rows in self.missing(name, shard, shards)
        )

    def fill(
        self, name: str, compute: ComputeFn, shard: int = 0, shards: int = 1
    ) -> None:
        """Compute and write the rows of a table that are not there.

        Args:
          name: the table.
          compute: takes a slice of rows and returns them.
          shard: the share of the work to do, from 0.
          shards: how many shares there are.

        Raises:
          ValueError: the folder holds other rows, or rows of another shape came.
          OSError: no room, or no permission.
        """
        self._begin()
        remove_partial_files(self.folder)
        for rows in self.missing(name, shard, shards):
            values = np.asarray(compute(rows), self.header.dtype)
            if values.shape != self._shape(name, rows):
                raise ValueError(
                    f"{name} has rows of shape {values.shape}, expected "
                    f"{self._shape(name, rows)}"
                )
            interrupts.check()
            buffer = io.BytesIO()
            np.save(buffer, values)
            replace_file(self._path(name, rows), buffer.getvalue())

    def read(self, name: str) -> np.ndarray:
        """Return a table; one of a single shard stays on disk until it is used.

        Raises:
          ValueError: the folder holds other rows, or shards are missing or damaged.
        """
        self._require_own()
        found = [self._open(name, rows) for _, rows in self._shards(name)]
        parts = [part for part in found if part is not None]
        if len(parts) < len(found):
            raise ValueError(
                f"{self.header.kind} are {str(self.folder)!r}, expected {len(found)} "
                f"shards of {name} ({len(found) - len(parts)} are missing or damaged)"
            )
        if not parts:
            return np.zeros(self.header.tables[name], self.header.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @functools.cached_property
    def _digest(self) -> str:
        text = json.dumps(self.header.record(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def _begin(self) -> None:
        if self._require_own():
            return
        text = json.dumps(self.header.record(), indent=1) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"cannot write {self.folder} ({error.strerror})") from error
        replace_file(self.folder / RECORD, text.encode())

    def _require_own(self) -> bool:
        """Say whether the folder was begun; refuse what is in it of another header."""
        place = f"{self.header.kind} are {str(self.folder)!r}"
        try:
            theirs = json.loads((self.folder / RECORD).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{place}, expected a readable {RECORD} in it (delete the folder)"
            ) from error
        known = theirs if isinstance(theirs, dict) else {}
        for key, mine in self.header.record().items():
            if known.get(key) != mine:
                raise ValueError(
                    f"{place}, expected those of {key} {mine}, not of "
                    f"{known.get(key)} (stale: delete the folder)"
                )
        return True

    def _shards(self, name: str) -> list[tuple[int, slice]]:
        """Return the shards of a table, numbered through all tables."""
        step, first = self.header.shard_rows, 0
        for table, (count, *_) in self.header.tables.items():
            starts = range(0, count, step)
            if table == name:
                return [
                    (first + n, slice(start, min(start + step, count)))
                    for n, start in enumerate(starts)
                ]
            first += len(starts)
        raise ValueError(
            f"table is {name!r}, expected one of {', '.join(self.header.tables)}"
        )

    def _shape(self, name: str, rows: slice) -> tuple[int, ...]:
        return rows.stop - rows.start, *self.header.tables[name][1:]

    def _path(self, name: str, rows: slice) -> Path:
        number = rows.start // self.header.shard_rows
        return self.folder / f"{name}_{number:05d}_{self._digest}.npy"

    def _open(self, name: str, rows: slice) -> np.ndarray | None:
        """Map a shard; None if it is not there, or not what it should be."""
        try:
            found = np.load(self._path(name, rows), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        fits = found.shape == self._shape(name, rows)
        return np.asarray(found) if fits and found.dtype == self.header.dtype else None
