"""Clips of one length out of extracted videos."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.video_cache import Cache
from data_pipelines.video_decoding import is_heard
from data_pipelines.video_lists import Item

TRAIN_PICTURES, TEST_PICTURES = 1, 3
"""Pictures kept of a clip; omnisep averages three when it asks by image."""


class Clip(NamedTuple):
    """A piece of a video.

    Attributes:
      id: The video's id; with ``#NUMBER`` where training cuts it into several.
      item: Its row of the list.
      audio: int16 [num_samples].
      frames: JPEG files of its seconds.
      start_s: Second of the (extracted) video it begins at.
      looped: Whether it repeats a video that is shorter.
    """

    id: str
    item: Item
    audio: np.ndarray
    frames: tuple[bytes, ...]
    start_s: float
    looped: bool


def read_clips(
    items: Sequence[Item],
    cache: Cache,
    num_samples: int,
    *,
    whole_videos: bool,
) -> Iterator[Clip]:
    """Cut clips, a video at a time.

    Without ``whole_videos`` a clip is a video's beginning. With it, training takes
    a video apart from end to end, and other splits take the clip around second
    ``frames // 2 - 1/2`` (omnisep). A video that is shorter than a clip is
    repeated (omnisep). Of several clips, those in which nothing is heard are left
    out.

    Args:
      items: The videos, all extracted.
      cache: Where they are.
      num_samples: Length of a clip.
      whole_videos: Whether videos are longer than a clip.
    """
    rate = cache.form.sample_rate_hz
    for item in items:
        audio, frames, _ = cache.load(item.id)
        starts, several = [0], False
        if whole_videos and item.split == "train":
            starts, several = _all_starts(len(audio), num_samples), True
        elif whole_videos:
            starts = [_central_start(item, len(audio), rate, num_samples)]
        pieces = [audio[start : start + num_samples] for start in starts]
        heard = [n for n, piece in enumerate(pieces) if is_heard(piece)]
        for number in heard or [0]:
            piece, start = pieces[number], starts[number]
            first = start / rate
            yield Clip(
                f"{item.id}#{number}" if several else item.id,
                item,
                np.resize(piece, num_samples),
                frames[int(first) : max(1, round(first + len(piece) / rate))],
                first,
                len(piece) < num_samples,
            )


def _all_starts(length: int, num_samples: int) -> list[int]:
    """Return where clips begin; a rest of half a clip or more overlaps the one before.

    A shorter rest is left out.
    """
    count, rest = divmod(length, num_samples)
    starts = [number * num_samples for number in range(count)] or [0]
    if count and 2 * rest >= num_samples:
        starts.append(length - num_samples)
    return starts


def _central_start(item: Item, length: int, rate: int, num_samples: int) -> int:
    count = item.num_frames or round(length / rate)
    start = round((count // 2 - 0.5) * rate) - num_samples // 2
    return max(0, min(start, length - num_samples))


def central_frames(clip: Clip) -> list[int]:
    """Return which frames of a clip are kept as pictures, around its middle."""
    count = TRAIN_PICTURES if clip.item.split == "train" else TEST_PICTURES
    count = min(count, len(clip.frames))
    first = max(0, min(len(clip.frames) // 2 - count // 2, len(clip.frames) - count))
    return list(range(first, first + count))
