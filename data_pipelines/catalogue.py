"""What every data set looks like once it is prepared, and how it is stored.

A prepared directory holds ``catalogue.json``, one ``clips_<split>.npy`` per
split and ``images.npy``. Clips are int16 so that a mixture can be built by
integer arithmetic, equal on every machine, and are read memory-mapped so that a
data set may be larger than memory.
"""

import contextlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

FORMAT = 1
"""Raised when ``catalogue.json`` changes in a way old readers misread."""

IMAGES = "images.npy"


class Catalogue(NamedTuple):
    """A prepared data set.

    Attributes:
      dataset: Name of the data set.
      class_names: One name per class.
      families: Family number per class.
      texts: Captions of all classes.
      text_label: Class of each caption, int32 [M].
      images: Pictures, uint8 [I, S, S, 3].
      image_label: Class of each picture, int32 [I].
      image_split: 0 for training artists, 1 for test artists, int32 [I].
      sample_rate_hz: Sampling rate of the clips.
      num_samples: Length of a stored clip; training crops may be shorter.
      clips: Per split, int16 [C, num_samples].
      clip_label: Per split, int32 [C].
      clip_id: Per split, one unique name per clip.
      description: Counts, licences, versions, ``crop_samples``, ``reduced``.
    """

    dataset: str
    class_names: tuple[str, ...]
    families: tuple[int, ...]
    texts: tuple[str, ...]
    text_label: np.ndarray
    images: np.ndarray
    image_label: np.ndarray
    image_split: np.ndarray
    sample_rate_hz: int
    num_samples: int
    clips: dict[str, np.ndarray]
    clip_label: dict[str, np.ndarray]
    clip_id: dict[str, tuple[str, ...]]
    description: dict[str, Any]


def clips_name(split: str) -> str:
    """Return the name of the file that holds a split's clips."""
    return f"clips_{split}.npy"


def crop_samples(catalogue: Catalogue) -> int:
    """Return the length of training and evaluation crops, in samples."""
    return int(catalogue.description.get("crop_samples", catalogue.num_samples))


def require_split(catalogue: Catalogue, split: str) -> None:
    """Check that a split exists and has clips.

    Raises:
      ValueError: the split is absent or empty.
    """
    if split not in catalogue.clips or not len(catalogue.clips[split]):
        known = ", ".join(name for name, clips in catalogue.clips.items() if len(clips))
        raise ValueError(f"split is {split!r}, expected one of {known}")


def rows_by_label(label: np.ndarray, num_classes: int) -> list[np.ndarray]:
    """Return, for each class, the rows that carry its label."""
    order = np.argsort(label, kind="stable")
    edges = np.searchsorted(label[order], np.arange(num_classes + 1))
    return [order[a:b] for a, b in itertools.pairwise(edges)]


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Lend the path of a draft that takes the file's place once it is whole.

    Raises:
      OSError: naming the file, when there is no room.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        reason = error.strerror or str(error)  # NumPy keeps no number of its errors
        raise OSError(error.errno, f"cannot write {path} ({reason})") from error
    finally:
        partial.unlink(missing_ok=True)


def remove_drafts(folder: pathlib.Path, name: str = "*") -> None:
    """Remove what processes left in a folder that were killed while they wrote.

    Args:
      folder: where.
      name: of the file that they wrote; a pattern.
    """
    for draft in folder.glob(f".{name}.*.partial"):
        draft.unlink(missing_ok=True)


def save_array(path: pathlib.Path, array: np.ndarray) -> None:
    """Write an .npy file that is either whole or not there."""
    with replacing(path) as partial, open(partial, "wb") as file:
        np.save(file, array)


def save_text(path: pathlib.Path, text: str) -> None:
    """Write a text file that is either whole or not there."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


class RowWriter:
    """Writes an .npy file row by row, for arrays that are larger than memory.

    Attributes:
      count: Rows written so far.
    """

    def __init__(
        self, file: BinaryIO, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> None:
        self._file, self._shape, self._dtype = file, shape, np.dtype(dtype)
        self.count = 0
        self.finish()

    def append(self, row: np.ndarray) -> None:
        """Write one row of the shape and type that were promised."""
        self._file.write(np.ascontiguousarray(row, self._dtype).data)
        self.count += 1

    def finish(self) -> None:
        """Write the header, whose size hangs on no number of rows."""
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": (self.count, *self._shape),
            },
        )


@contextlib.contextmanager
def writing_rows(
    path: pathlib.Path, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> Iterator[RowWriter]:
    """Open an .npy file for rows of a shape; it is whole or not there."""
    with replacing(path) as partial, open(partial, "wb") as file:
        writer = RowWriter(file, shape, dtype)
        yield writer
        writer.finish()


def save_catalogue(catalogue: Catalogue, directory: str | os.PathLike[str]) -> None:
    """Write a catalogue; ``catalogue.json`` comes last, so it marks the end.

    Args:
      catalogue: What to write.
      directory: Where; made if absent.
    """
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "catalogue.json").unlink(missing_ok=True)
    for split, clips in catalogue.clips.items():
        save_array(folder / clips_name(split), clips)
    save_array(folder / IMAGES, catalogue.images)
    save_record(catalogue, folder)


def save_record(catalogue: Catalogue, folder: pathlib.Path) -> None:
    """Write ``catalogue.json`` beside arrays that are there already."""
    record = {
        "format": FORMAT,
        "dataset": catalogue.dataset,
        "class_names": list(catalogue.class_names),
        "families": list(catalogue.families),
        "texts": list(catalogue.texts),
        "text_label": catalogue.text_label.tolist(),
        "image_label": catalogue.image_label.tolist(),
        "image_split": catalogue.image_split.tolist(),
        "sample_rate_hz": catalogue.sample_rate_hz,
        "num_samples": catalogue.num_samples,
        "splits": {
            split: {
                "clip_id": list(catalogue.clip_id[split]),
                "clip_label": catalogue.clip_label[split].tolist(),
            }
            for split in catalogue.clips
        },
        "description": catalogue.description,
    }
    save_text(folder / "catalogue.json", json.dumps(record, indent=1) + "\n")


def load_catalogue(directory: str | os.PathLike[str]) -> Catalogue:
    """Open a prepared data set; clips stay on disk until they are read.

    Args:
      directory: A folder that `save_catalogue` wrote.

    Returns:
      The catalogue.

    Raises:
      ValueError: no prepared data set there, or another format of it.
    """
    folder = pathlib.Path(directory)
    path = folder / "catalogue.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"directory is {str(folder)!r}, expected a prepared data set with a "
            "readable catalogue.json"
        ) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(
            f"directory is {str(folder)!r}, expected a catalogue.json of format "
            f"{FORMAT}; prepare the data set again"
        )
    return _from_record(record, folder)


def _from_record(record: dict[str, Any], folder: pathlib.Path) -> Catalogue:
    splits = record["splits"]
    return Catalogue(
        dataset=record["dataset"],
        class_names=tuple(record["class_names"]),
        families=tuple(record["families"]),
        texts=tuple(record["texts"]),
        text_label=np.asarray(record["text_label"], np.int32),
        images=open_array(folder / IMAGES, len(record["image_label"])),
        image_label=np.asarray(record["image_label"], np.int32),
        image_split=np.asarray(record["image_split"], np.int32),
        sample_rate_hz=record["sample_rate_hz"],
        num_samples=record["num_samples"],
        clips={
            name: open_array(folder / clips_name(name), len(split["clip_id"]))
            for name, split in splits.items()
        },
        clip_label={
            name: np.asarray(split["clip_label"], np.int32)
            for name, split in splits.items()
        },
        clip_id={name: tuple(split["clip_id"]) for name, split in splits.items()},
        description=record["description"],
    )


def open_array(path: pathlib.Path, rows: int) -> np.ndarray:
    """Map a non-empty array; NumPy refuses to map one without elements."""
    try:
        array = np.load(path, mmap_mode="r" if rows else None)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"directory is {str(path.parent)!r}, expected a readable {path.name} in it"
        ) from error
    if len(array) != rows:
        raise ValueError(f"{path} has {len(array)} rows, expected {rows}")
    return array
