"""Read a user's table of recordings: CSV or JSONL, one recording a line."""

import csv
import hashlib
import io
import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

COLUMNS = ("audio", "label", "caption", "image", "split")
VALIDATION_SHARE, TEST_SHARE = 10, 10
"""Per cent of the files that go to each split where the table names none."""


class Row(NamedTuple):
    """One recording of the table, with where it stands for messages.

    Attributes:
      where: ``file:line``.
      audio: Path of the recording.
      name: The path as the table gives it.
      label: Class name; the caption where the table gives no label.
      caption: Caption; the label where the table gives none.
      image: Path of a picture, or None.
      split: Name of the split.
    """

    where: str
    audio: pathlib.Path
    name: str
    label: str
    caption: str
    image: pathlib.Path | None
    split: str


class BadRows(ValueError):  # noqa: N818  (it is a ValueError that counts)
    """The first bad row in one line, and how many more there are."""

    def __init__(self, problems: list[str]) -> None:
        more = f" (and {len(problems) - 1} more bad rows)" if problems[1:] else ""
        super().__init__(problems[0] + more)


def find_table(manual_dir: pathlib.Path) -> pathlib.Path:
    """Return the table: the path itself, or the only CSV or JSONL in a folder.

    Raises:
      ValueError: there is none, or more than one.
    """
    if manual_dir.is_file():
        return manual_dir
    if not manual_dir.is_dir():
        raise ValueError(
            f"manual_dir is {str(manual_dir)!r}, expected an existing folder or table"
        )
    found = sorted(p for p in manual_dir.iterdir() if p.suffix in (".csv", ".jsonl"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise ValueError(
            f"manual_dir is {str(manual_dir)!r}, expected exactly one .csv or .jsonl "
            f"in it, found {names}"
        )
    return found[0]


def read_table(table: pathlib.Path) -> list[Row]:
    """Read and check every row of a table.

    Args:
      table: A .csv with a header or a .jsonl; paths in it are relative to it.

    Returns:
      Its rows in order.

    Raises:
      ValueError: an unreadable table, no rows, or a bad row, named by its line.
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{table} cannot be read, expected a CSV or JSONL file in UTF-8"
        ) from error
    records = _csv_records if table.suffix == ".csv" else _jsonl_records
    rows, problems = [], []
    for line, record in records(text, table):
        made = _make_row(f"{table}:{line}", record, table.parent)
        if isinstance(made, Row):
            rows.append(made)
        else:
            problems.append(made)
    if problems:
        raise BadRows(problems)
    if not rows:
        raise ValueError(f"{table} has no rows, expected at least one recording")
    return rows


def fingerprint(table: pathlib.Path, rows: list[Row]) -> str:
    """Return eight hex digits that change with the table or any file it names."""
    whole = hashlib.sha256(table.read_bytes())
    for row in rows:
        for path in (row.audio, row.image):
            if path is not None:
                with open(path, "rb") as file:
                    whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:8]


def _csv_records(text: str, table: pathlib.Path) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    names = [name.strip() for name in reader.fieldnames or []]
    if "audio" not in names or not {"label", "caption"} & set(names):
        raise ValueError(
            f"{table}:1: columns are {', '.join(names) or 'missing'}, expected audio "
            "and label or caption"
        )
    # Spreadsheets may write columns without a name: those are let pass.
    if unknown := [name for name in names if name and name not in COLUMNS]:
        raise ValueError(
            f"{table}:1: column is {unknown[0]!r}, expected {', '.join(COLUMNS)}"
        )
    reader.fieldnames = names
    try:
        for record in reader:
            record.pop("", None)
            yield reader.line_num, record
    except csv.Error as error:
        raise ValueError(f"{table}:{reader.line_num}: {error}, expected CSV") from error


def _jsonl_records(text: str, table: pathlib.Path) -> Iterator[tuple[int, Any]]:
    for line, content in enumerate(text.splitlines(), 1):
        if content.strip():
            try:
                yield line, json.loads(content)
            except json.JSONDecodeError:
                yield line, None


def _make_row(where: str, record: Any, base: pathlib.Path) -> Row | str:
    """Return a row, or what is wrong with it."""
    if not isinstance(record, dict):
        return f"{where}: expected one JSON object on the line"
    if None in record:
        return (
            f"{where}: cells beyond the last column are {', '.join(record[None])!r}, "
            "expected quotes around a cell with commas"
        )
    if unknown := sorted(set(record) - set(COLUMNS)):
        return f"{where}: column is {unknown[0]!r}, expected {', '.join(COLUMNS)}"
    cells = {}
    for column in COLUMNS:
        value = record.get(column)
        if value is not None and not isinstance(value, str):
            return f"{where}: {column} is {value!r}, expected text"
        cells[column] = " ".join((value or "").split())
    if not cells["audio"]:
        return f"{where}: audio is empty, expected a path"
    label = cells["label"] or cells["caption"]
    if not label:
        return f"{where}: label is empty, expected a label or a caption"
    audio = base / (record["audio"].strip())
    if not audio.is_file():
        return f"{where}: audio is {cells['audio']!r}, expected an existing file"
    image = base / record["image"].strip() if cells["image"] else None
    if image is not None and not image.is_file():
        return f"{where}: image is {cells['image']!r}, expected an existing file"
    split = cells["split"] or split_of(cells["audio"])
    # TFDS means every split by "all".
    if not re.fullmatch(r"[a-z][a-z0-9_]*", split) or split == "all":
        return f"{where}: split is {split!r}, expected train, validation or test"
    caption = cells["caption"] or label
    return Row(where, audio, cells["audio"], label, caption, image, split)


def split_of(name: str, test_share: int = TEST_SHARE) -> str:
    """Choose a split by a hash of the name: adding files moves no other file."""
    place = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 100
    if place < test_share:
        return "test"
    return "validation" if place < test_share + VALIDATION_SHARE else "train"
