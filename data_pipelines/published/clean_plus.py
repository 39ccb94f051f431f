"""VGGSOUND-clean+ and MUSIC-clean+: the published pairs, kept as lists.

The pairing rule of the two laboratories that published scores: the interferer of
target i is the row of a pool that ``random.Random(i).randint(0, len(pool) - 1)``
draws. It hangs on how many videos of the pool each of them could still download, so
the same names stand for different mixtures:

- ``vggsound_clean_plus`` is OmniSep's: 98 targets, a pool of 5293. CLIPSep's, with
  100 targets and a pool of 5322, shares none of its mixtures.
- ``music_clean_plus`` has the 46 targets that CLIPSep shipped and OmniSep's pool of
  74; OmniSep's own targets were never released. CLIPSep's, with a pool of 75, shares
  20 of its mixtures.

The lists here are the outcome of that draw, so that nothing moves any more when a
video disappears. No paper says that its scores are of exactly these pairs.
"""

import csv
import hashlib
import importlib.resources
import pathlib
from typing import Any

from data_pipelines.published.plans import Plan, Planned, Recording
from data_pipelines.video_lists import Item

SHA256 = {
    "vggsound_clean_plus": (
        "ab71868aac14220534a08b83f968776e42c0448a96dd93d843d8aab11b4d1bd0"
    ),
    "music_clean_plus": (
        "9b8b8d6fcb546b30ec5324051ad9a1befbc8a3e68f19f4b5eecf09f101000a88"
    ),
}
"""Of the lines ``target interferer``, names without class, no newline at the end."""

POOL_SIZE = {"vggsound_clean_plus": 5_293, "music_clean_plus": 74}


def read_pairs(name: str) -> list[dict[str, Any]]:
    """Read a list's rows.

    Args:
      name: ``vggsound_clean_plus`` or ``music_clean_plus``.

    Returns:
      ``number``, ``target``, ``label``, ``frames``, ``pool_row``, ``interferer``,
      ``interferer_label`` and ``interferer_frames`` of each.
    """
    file = importlib.resources.files("data_pipelines.published") / f"lists/{name}.tsv"
    counts = ("number", "frames", "pool_row", "interferer_frames")
    with file.open(encoding="utf-8") as lines:
        rows = csv.DictReader(lines, delimiter="\t")
        return [row | {key: int(row[key]) for key in counts} for row in rows]


def hash_pairs(rows: list[dict[str, Any]]) -> str:
    """Return the hash that identifies a list of pairs."""
    names = [(row["target"].rpartition("/")[2], row["interferer"]) for row in rows]
    return hashlib.sha256("\n".join(map(" ".join, names)).encode()).hexdigest()


def read_plan(name: str, manual_dir: pathlib.Path) -> Plan:
    """Return a list's plan; of the folder any file will do that has the right name.

    Raises:
      ValueError: no such folder.
    """
    if not manual_dir.is_dir():
        raise ValueError(
            f"manual_dir is {str(manual_dir)!r}, expected an existing folder"
        )
    rows = read_pairs(name)
    mixtures = tuple(
        Planned(
            f"{name}-{row['number']:04d}",
            (
                _recording(row["target"], row["label"], row["frames"]),
                _recording(
                    row["interferer"], row["interferer_label"], row["interferer_frames"]
                ),
            ),
            row["label"],
            row["interferer_label"],
        )
        for row in rows
    )
    return Plan(mixtures, hash_pairs(rows), name)


def _recording(clip: str, label: str, num_frames: int) -> Recording:
    """Name the video behind a clip of VGGSound, or behind one of MUSIC's solos."""
    if "/" in clip:
        item = Item(clip, label, "test", clip.rpartition("/")[2], None, num_frames)
    else:
        video, start = clip[:11], int(clip[12:])
        item = Item(clip, label, "test", video, start, num_frames)
    return Recording(clip, item=item)
