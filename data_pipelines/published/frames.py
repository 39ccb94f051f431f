"""Pictures that ask for the targets of a published list: frames of their videos."""

import pathlib
from typing import NamedTuple

import numpy as np

from data_pipelines.published.plans import Plan, Recording

FRAMES = "frames"
"""Folder of folders with a video's frames, one a second: ``000001.jpg`` and on."""

AROUND = (-1, 0, 1)
"""omnisep: the middle frame and its neighbours, whose embeddings are averaged."""


class Pictures(NamedTuple):
    """Pictures of recordings.

    Attributes:
      pixels: uint8 [I, S, S, 3].
      owners: The recording that each belongs to.
      by_recording: Their numbers, by recording.
    """

    pixels: np.ndarray
    owners: tuple[str, ...]
    by_recording: dict[str, list[int]]


def read_pictures(manual_dir: pathlib.Path, plan: Plan, image_size: int) -> Pictures:
    """Read the frames around the middle of each target's video, if there are any.

    They lie in ``frames/CLIP/000006.jpg`` under the user's folder, CLIP being the
    recording's id. A frame that is missing or unreadable is left out.

    Args:
      manual_dir: The user's folder.
      plan: The list.
      image_size: Side of the square pictures.
    """
    pixels: list[np.ndarray] = []
    owners: list[str] = []
    by_recording: dict[str, list[int]] = {}
    for recording in dict.fromkeys(p.recordings[0] for p in plan.mixtures):
        for path in _frames(manual_dir, recording):
            picture = _read(path, image_size)
            if picture is not None:
                by_recording.setdefault(recording.id, []).append(len(pixels))
                pixels.append(picture)
                owners.append(recording.id)
    blank = np.zeros((0, image_size, image_size, 3), np.uint8)
    return Pictures(np.stack(pixels) if pixels else blank, tuple(owners), by_recording)


def _frames(manual_dir: pathlib.Path, recording: Recording) -> list[pathlib.Path]:
    if recording.num_frames is None:
        return []
    folder = manual_dir / FRAMES / recording.id
    middle = recording.num_frames // 2
    return [folder / f"{middle + step:06d}.jpg" for step in AROUND]


def _read(path: pathlib.Path, image_size: int) -> np.ndarray | None:
    """Return the central square of a frame, uint8 [S, S, 3], or None."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            size = (image_size, image_size)
            square = ImageOps.fit(file.convert("RGB"), size, Image.Resampling.BICUBIC)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return np.asarray(square, np.uint8)
