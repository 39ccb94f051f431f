"""Rows of a run, a JSON object a line: never half a line, never one twice."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class RowFile:
    """Rows of one stage in a file that several stages may share.

    A row has at least ``step`` and ``stage``.
    """

    def __init__(self, path: Path, stage: str) -> None:
        """Name the file, which the first row makes, and the stage."""
        self.path, self.stage = path, stage

    def rows(self) -> list[Row]:
        """Return this stage's rows."""
        return [row for row in self._read() if row.get("stage") == self.stage]

    def _read(self) -> list[Row]:
        """Read whole lines; one that a crash of the machine cut is left out."""
        rows = []
        with contextlib.suppress(FileNotFoundError):
            for line in self.path.read_bytes().split(b"\n"):
                with contextlib.suppress(ValueError):
                    row = json.loads(line)
                    if isinstance(row, dict):
                        rows.append(row)
        return rows

    def truncate(self, step: int) -> None:
        """Forget this stage's rows after a step, before going on from there."""
        if not self.path.exists():
            return
        kept = [
            row
            for row in self._read()
            if row.get("stage") != self.stage or row.get("step", 0) <= step
        ]
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            partial.write_bytes(b"".join(map(_encode, kept)))
            os.replace(partial, self.path)
        finally:
            partial.unlink(missing_ok=True)

    def append(self, row: Mapping[str, Any]) -> None:
        """Append a row.

        Raises:
          OSError: no room; the file then ends with the row before.
        """
        append_whole(self.path, _encode(row))


def _encode(row: Mapping[str, Any]) -> bytes:
    return (json.dumps(row) + "\n").encode()


def append_whole(path: Path, line: bytes) -> None:
    """Append by one system call, which a kill does not cut in two.

    Raises:
      OSError: no room; the file then ends where it did.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(handle).st_size
        try:
            written = os.write(handle, line)
        except OSError as error:
            raise OSError(error.errno, f"cannot write {path} ({error.strerror})") from (
                error
            )
        if written < len(line):  # the disk is full: leave whole lines behind
            os.ftruncate(handle, size)
            raise OSError(28, f"cannot write {path} (No space left on device)")
    finally:
        os.close(handle)
