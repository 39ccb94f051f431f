"""The published lists of VGGSound and MUSIC: which videos, labels and splits.

Three kinds of lists are read, as they are published:

- ``train.csv``, ``val.csv`` (or ``validation.csv``), ``test.csv`` without header,
  columns audio path, frame folder, number of frames, label. Only the file's name
  counts of a path; MUSIC takes a missing label from the folder's name.
- ``vggsound.csv``: video id, start second, label, train or test.
- ``MUSIC*solo*.json``: ``{"videos": {class: [video id, ..]}}``.

Where a list has no validation or test part, a tenth goes to each, by a hash of the
video's id. A video that is in several parts stays in the one that is most held
back; the others are reported.
"""

import csv
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from data_pipelines.folder_table import BadRows, split_of

SPLITS = ("train", "validation", "test")
"""From the least held back to the most."""

FILES = {
    "train": ("train.csv",),
    "validation": ("val.csv", "validation.csv"),
    "test": ("test.csv",),
}
PLACES = ("", "lists")
"""Folders under the manual directory that lists are looked for in."""

OFFICIAL = "vggsound.csv"
CLASSES = "MUSIC*solo*.json"


class Item(NamedTuple):
    """One video of a list.

    Attributes:
      id: Its unique name: ``VIDEO_SECOND`` (VGGSound), ``CLASS/VIDEO`` (MUSIC).
      label: Class name.
      split: train, validation or test.
      video: Id of the whole video.
      start_s: Second of it that the clip begins at; None where the list has none.
      num_frames: Frames at 1 per second, as the list counts them, or None.
    """

    id: str
    label: str
    split: str
    video: str
    start_s: int | None = None
    num_frames: int | None = None


class Lists(NamedTuple):
    """What the lists hold.

    Attributes:
      items: Videos, each once, by split and in the order of the lists.
      files: The lists.
      repeated: Rows left out because their video is in the list or in one that is
        more held back, as ``id (split)``.
    """

    items: list[Item]
    files: list[pathlib.Path]
    repeated: list[str]


def read_lists(manual_dir: pathlib.Path, dataset: str) -> Lists:
    """Find and read the lists of a data set.

    Args:
      manual_dir: Folder that holds them, or whose folder ``lists`` does.
      dataset: ``vggsound`` or ``music``.

    Raises:
      ValueError: no lists, or a bad row, named by its line.
    """
    if not manual_dir.is_dir():
        raise ValueError(
            f"manual_dir is {str(manual_dir)!r}, expected an existing folder"
        )
    parts, whole = _find(manual_dir, dataset)
    if not parts and whole is None:
        name = OFFICIAL if dataset == "vggsound" else CLASSES
        raise ValueError(
            f"manual_dir is {str(manual_dir)!r}, expected a published list in it: "
            f"{name}, or train.csv, val.csv and test.csv"
        )
    if parts:
        read = _vggsound_row if dataset == "vggsound" else _music_row
        items, problems = _read_parts(parts, read)
        files = [path for _, path in parts]
    else:
        assert whole is not None
        files = [whole]
        reader = _read_official if dataset == "vggsound" else _read_classes
        items, problems = reader(whole)
    if problems:
        raise BadRows(problems)
    if not items:
        raise ValueError(f"{files[0]} has no rows, expected at least one video")
    kept, repeated = _once(_with_validation(items))
    return Lists(kept, files, repeated)


def _find(
    manual_dir: pathlib.Path, dataset: str
) -> tuple[list[tuple[str, pathlib.Path]], pathlib.Path | None]:
    """Return the lists of the splits, and the one list of everything."""
    folders = [manual_dir / place for place in PLACES]
    parts = []
    for split, names in FILES.items():
        found = [f / name for f in folders for name in names if (f / name).is_file()]
        parts += [(split, path) for path in found[:1]]
    pattern = OFFICIAL if dataset == "vggsound" else CLASSES
    whole = [path for folder in folders for path in sorted(folder.glob(pattern))]
    return parts, whole[0] if whole else None


def _rows(path: pathlib.Path) -> Iterator[tuple[str, list[str]]]:
    """Return the rows that are not blank, with their places."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if any(cell.strip() for cell in row):
                    cells = [" ".join(cell.split()) for cell in row]
                    yield f"{path}:{reader.line_num}", cells
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read, expected a CSV file") from error
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: {error}, expected CSV") from error


def _read_parts(
    parts: list[tuple[str, pathlib.Path]],
    read: Callable[[str, list[str], str], Item | str],
) -> tuple[list[Item], list[str]]:
    items, problems = [], []
    for split, path in parts:
        for where, row in _rows(path):
            if len(row) < 3 or not row[2].isdigit():
                problems.append(
                    f"{where}: row is {','.join(row)!r}, expected audio path, frame "
                    "folder, number of frames, label"
                )
                continue
            made = read(where, row, split)
            if isinstance(made, Item):
                items.append(made)
            else:
                problems.append(made)
    return items, problems


def _vggsound_row(where: str, row: list[str], split: str) -> Item | str:
    name, label = pathlib.PurePath(row[0]).stem, " ".join(row[3:])
    if not name or not label:
        return f"{where}: label is {label!r}, expected a label of {row[0]!r}"
    video, _, start = name.rpartition("_")
    if len(video) == 11 and start.isdigit():
        return Item(name, plain_label(label), split, video, int(start), int(row[2]))
    return Item(name, plain_label(label), split, name, None, int(row[2]))


def _music_row(where: str, row: list[str], split: str) -> Item | str:
    path = pathlib.PurePath(row[0])
    label = row[3] if len(row) > 3 and row[3] else path.parent.name
    if not path.stem or not label:
        return f"{where}: audio is {row[0]!r}, expected a path CLASS/VIDEO.wav"
    name = f"{path.parent.name or label}/{path.stem}"
    return Item(name, label, split, path.stem, None, int(row[2]))


def plain_label(label: str) -> str:
    """Return a label of VGGSound as the lists write it, without commas."""
    return label.replace(", ", " ")


def _read_official(path: pathlib.Path) -> tuple[list[Item], list[str]]:
    items, problems = [], []
    for where, row in _rows(path):
        if len(row) != 4 or not row[1].isdigit() or row[3] not in ("train", "test"):
            problems.append(
                f"{where}: row is {','.join(row)!r}, expected video id, start second, "
                "label, train or test"
            )
            continue
        video, start, label, split = row
        name = f"{video}_{int(start):06d}"
        items.append(Item(name, plain_label(label), split, video, int(start)))
    return items, problems


def _read_classes(path: pathlib.Path) -> tuple[list[Item], list[str]]:
    try:
        classes = json.loads(path.read_text(encoding="utf-8"))["videos"]
        pairs = [(label, video) for label in classes for video in classes[label]]
        names = [(f"{label}/{video}", label, str(video)) for label, video in pairs]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is no list of MUSIC, expected {{"videos": {{class: [id]}}}}'
        ) from error
    return [Item(n, label, split_of(n), video) for n, label, video in names], []


def _with_validation(items: list[Item]) -> list[Item]:
    """Share the training part out where there is no validation part."""
    if any(item.split == "validation" for item in items):
        return items
    return [
        item._replace(split=split_of(item.id, 0)) if item.split == "train" else item
        for item in items
    ]


def _once(items: list[Item]) -> tuple[list[Item], list[str]]:
    """Keep each video in the split that is most held back."""
    place: dict[str, int] = {}
    for item in items:
        held = SPLITS.index(item.split)
        place[item.id] = max(place.get(item.id, 0), held)
    kept: dict[str, Item] = {}
    repeated = []
    for item in items:
        if item.id in kept or SPLITS.index(item.split) < place[item.id]:
            repeated.append(f"{item.id} ({item.split})")
        else:
            kept[item.id] = item
    ordered = sorted(kept.values(), key=lambda item: SPLITS.index(item.split))
    return ordered, repeated
