"""Pictures that ask for the targets of a published list: frames of their videos."""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from data_pipelines.published.plans import Recording
from data_pipelines.published.recordings import Heard
from data_pipelines.video_pictures import from_jpeg, to_jpeg
from data_pipelines.video_sources import Source

AROUND = (-1, 0, 1)
"""omnisep: the middle frame and its neighbours, whose embeddings are averaged."""


class Pictures(NamedTuple):
    """Pictures of recordings.

    Attributes:
      pixels: uint8 [I, S, S, 3].
      owners: The recording that each belongs to.
    """

    pixels: np.ndarray
    owners: tuple[str, ...]

    def by_recording(self) -> dict[str, list[int]]:
        """Return the numbers of each recording's pictures."""
        found: dict[str, list[int]] = {}
        for number, owner in enumerate(self.owners):
            found.setdefault(owner, []).append(number)
        return found


def gather(found: dict[str, list[np.ndarray]], image_size: int) -> Pictures:
    """Lay the pictures of all recordings into one array."""
    pixels = [picture for own in found.values() for picture in own]
    owners = tuple(owner for owner, own in found.items() for _ in own)
    blank = np.zeros((0, image_size, image_size, 3), np.uint8)
    return Pictures(np.stack(pixels) if pixels else blank, owners)


def pictures_of(
    recording: Recording, source: Source, heard: Heard, image_size: int
) -> list[np.ndarray]:
    """Return the frames around the middle of a target, as many as there are.

    They are the video's own, or ``frames/CLIP/000006.jpg`` and its neighbours in the
    user's folder. A frame that is missing or unreadable is left out.

    Args:
      recording: The target.
      source: Where it is.
      heard: What was read of it.
      image_size: Side of the square pictures.

    Returns:
      uint8 [S, S, 3] each.
    """
    if recording.num_frames is None:
        return []
    numbers = [recording.num_frames // 2 + step for step in AROUND]  # from 1
    if source.frames is not None:
        paths = [pathlib.Path(source.frames, f"{n:06d}.jpg") for n in numbers]
        return list(_read(paths, image_size))
    count = len(heard.frames)
    return [from_jpeg(heard.frames[n - 1]) for n in numbers if 1 <= n <= count]


def _read(paths: list[pathlib.Path], image_size: int) -> Iterator[np.ndarray]:
    from PIL import Image

    for path in paths:
        try:
            with Image.open(path) as picture:
                yield from_jpeg(to_jpeg(picture, image_size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
