"""Find the file of each video of a list in a user's folder."""

import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from data_pipelines.video_lists import Item

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".flv", ".mpg", ".mpeg", ".ts")
)
AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".wma")
)
FRAMES = "frames"
"""Folder whose folders hold a video's frames, one a second: ``000001.jpg`` and on."""

_CLIP = re.compile(r"(.{11})_\d+(?:_\d+)?")
"""A clip that is named by its video and second."""


class Source(NamedTuple):
    """Where a video's sound and pictures are.

    Attributes:
      media: Video or recording.
      frames: Folder of its frames, or None where they are in the video.
      start_s: Second the clip begins at, if the file is the whole video.
    """

    media: str
    frames: str | None = None
    start_s: int | None = None


class Index:
    """All media files of a folder, by the name without suffix."""

    def __init__(self, manual_dir: pathlib.Path) -> None:
        self.media: dict[str, list[str]] = {}
        self.clips: dict[str, list[str]] = {}
        self.frame_roots: list[pathlib.Path] = []
        for path, is_frames in _walk(manual_dir):
            if is_frames:
                self.frame_roots.append(pathlib.Path(path))
                continue
            stem = pathlib.PurePath(path).stem
            self.media.setdefault(stem, []).append(path)
            if match := _CLIP.fullmatch(stem):
                self.clips.setdefault(match[1], []).append(path)

    def find(self, item: Item) -> Source | None:
        """Return where a video is, or None.

        A video is preferred to a recording, and of several files the one whose
        folder is named as its class, then the first by name.
        """
        names, whole = [pathlib.PurePosixPath(item.id).name], None
        if item.start_s is not None:
            names += [
                f"{item.video}_{item.start_s}",
                f"{item.video}_{item.start_s}_{item.start_s + 10}",
            ]
        found = next((self.media[name] for name in names if name in self.media), [])
        if not found:
            found, whole = self.media.get(item.video, []), item.start_s
        if not found and item.start_s is None:
            found = self.clips.get(item.video, [])
        if not found:
            return None
        best = min(found, key=lambda path: (*_rank(path, item), path))
        return Source(best, self._frames(item, best), whole)

    def _frames(self, item: Item, media: str) -> str | None:
        if _is_video(media):
            return None
        stem = pathlib.PurePath(media).stem
        for root in self.frame_roots:
            for name in (item.id, stem):
                if (root / name).is_dir():
                    return str(root / name)
        return None


def stamp(source: Source) -> str:
    """Return what changes when a source does: name, size and time of its files."""
    parts = [str(source.start_s)]
    for path in (source.media, source.frames):
        if path is not None:
            status = os.stat(path)
            parts.append(
                f"{os.path.basename(path)}:{status.st_size}:{status.st_mtime_ns}"
            )
    return "|".join(parts)


def _rank(path: str, item: Item) -> tuple[bool, bool]:
    return not _is_video(path), pathlib.PurePath(path).parent.name != item.label


def _is_video(path: str) -> bool:
    return pathlib.PurePath(path).suffix.lower() in VIDEO_SUFFIXES


def _walk(folder: pathlib.Path) -> Iterator[tuple[str, bool]]:
    """Return media files, and folders of frames without looking into them."""
    for place, folders, files in os.walk(folder, followlinks=True):
        if FRAMES in folders:
            folders.remove(FRAMES)
            yield os.path.join(place, FRAMES), True
        folders.sort()
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in VIDEO_SUFFIXES or suffix in AUDIO_SUFFIXES:
                yield os.path.join(place, name), False
