"""Clips and pictures of extracted videos as the arrays of a catalogue."""

import pathlib
from typing import Any

import av
import numpy as np
import soxr

from data_pipelines.catalogue import (
    IMAGES,
    Catalogue,
    RowWriter,
    clips_name,
    open_array,
    writing_rows,
)
from data_pipelines.video_clips import Clip, central_frames
from data_pipelines.video_pictures import from_jpeg
from data_pipelines.videos import VERSION, Material


def write_arrays(
    material: Material, directory: pathlib.Path, crop_samples: int, digest: str
) -> Catalogue:
    """Write clips and pictures, row by row, and return the catalogue of them.

    Args:
      material: The extracted videos.
      directory: Where the arrays go.
      crop_samples: Length of the crops that training takes.
      digest: Fingerprint of what the data set is made from.
    """
    rows = _Rows(material)
    size = material.cache.form.image_size
    with writing_rows(directory / IMAGES, (size, size, 3), np.uint8) as images:
        for split in material.splits():
            path = directory / clips_name(split)
            with writing_rows(path, (material.num_samples,), np.int16) as clips:
                for clip in material.clips(split):
                    clips.append(clip.audio)
                    rows.add(clip, images)
    present = {split: names for split, names in rows.clip_id.items() if names}
    names = material.class_names
    return Catalogue(
        dataset=material.dataset,
        class_names=tuple(names),
        families=tuple(range(len(names))),
        texts=tuple(names),  # omnisep: the bare label
        text_label=np.arange(len(names), dtype=np.int32),
        images=open_array(directory / IMAGES, len(rows.image_label)),
        image_label=np.asarray(rows.image_label, np.int32),
        image_split=np.asarray(rows.image_split, np.int32),
        sample_rate_hz=material.cache.form.sample_rate_hz,
        num_samples=material.num_samples,
        clips={
            split: open_array(directory / clips_name(split), len(own))
            for split, own in present.items()
        },
        clip_label={
            split: np.asarray(rows.clip_label[split], np.int32) for split in present
        },
        clip_id={split: tuple(own) for split, own in present.items()},
        description=rows.describe()
        | {"crop_samples": crop_samples}
        | {"made_from": digest},
    )


class _Rows:
    """What is said of clips and pictures, gathered while they are written."""

    def __init__(self, material: Material) -> None:
        self._material = material
        self._label = {name: n for n, name in enumerate(material.class_names)}
        self.clip_id: dict[str, list[str]] = {s: [] for s in material.splits()}
        self.clip_label: dict[str, list[int]] = {s: [] for s in self.clip_id}
        self._start: dict[str, list[float]] = {s: [] for s in self.clip_id}
        self._looped: list[str] = []
        self._image_name: list[str] = []
        self.image_label: list[int] = []
        self.image_split: list[int] = []

    def add(self, clip: Clip, images: RowWriter) -> None:
        """Note a clip, and write its pictures."""
        split, label = clip.item.split, self._label[clip.item.label]
        self.clip_id[split].append(clip.id)
        self.clip_label[split].append(label)
        self._start[split].append(round(clip.start_s, 6))
        if clip.looped:
            self._looped.append(clip.id)
        for number in central_frames(clip):
            images.append(from_jpeg(clip.frames[number]))
            self._image_name.append(f"{clip.id}/{number + 1:06d}")
            self.image_label.append(label)
            self.image_split.append(int(split != "train"))

    def describe(self) -> dict[str, Any]:
        """Return the catalogue's description."""
        counts = {split: len(names) for split, names in self.clip_id.items()}
        account = self._material.account
        return {
            "version": VERSION,
            "reduced": False,
            "licences": {},
            "versions": {
                "av": av.__version__,
                "numpy": np.__version__,
                "soxr": soxr.__version__,
            },
            "counts": counts | {"pictures": len(self.image_label)},
            "videos": {
                name: len(account[name])
                for name in ("present", "missing", "unreadable")
            },
            "image_names": self._image_name,
            "repeated_clips": self._looped,
            "clip_start_s": self._start if self._material.whole_videos else {},
        }
