"""From the videos a user has to a prepared data set with mixtures and an account."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import shuffle

from data_pipelines.catalogue import remove_drafts, save_record
from data_pipelines.folder import MANIFEST_MIXTURES, OTHER_MIXTURES
from data_pipelines.manifest import write_manifests
from data_pipelines.mixing import tf
from data_pipelines.video_arrays import write_arrays
from data_pipelines.video_sources import stamp
from data_pipelines.videos import (
    ACCOUNT,
    BUILDERS,
    FULL,
    VERSION,
    Material,
    Progress,
    Videos,
    VideosConfig,
    no_progress,
    save_account,
)

CROP_SAMPLES = 65_535
"""Exactly 256 frames at a hop of 256 (omnisep)."""

BUFFER_BYTES = 100 << 20
"""Examples that are held while they are shuffled."""

SHOWN = 10
"""Unreadable videos that are told of one by one."""


def prepare(
    dataset: str,
    manual_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    *,
    sample_rate_hz: int = FULL.sample_rate_hz,
    num_samples: int = FULL.num_samples,
    crop_samples: int = CROP_SAMPLES,
    image_size: int = FULL.image_size,
    workers: int | None = None,
    announce: Callable[[str], None] = print,
    progress: Progress = no_progress,
) -> pathlib.Path:
    """Build ``vggsound`` or ``music`` from what a folder holds of it.

    Videos are extracted into ``extracted-*`` beside the data set, a file each, so
    that a run that was stopped goes on; that folder may be deleted afterwards. The
    account of what is there, missing or unreadable lies in both as account.json.

    Args:
      dataset: ``vggsound`` or ``music``.
      manual_dir: Folder with the published lists and the videos.
      data_dir: Folder of all data sets.
      sample_rate_hz: Sampling rate of the clips.
      num_samples: Length of a clip.
      crop_samples: Length of the crops that training takes of it.
      image_size: Side of the pictures.
      workers: Processes; None takes the cores.
      announce: Called with each line the user should read.
      progress: Told how far work is.

    Returns:
      The prepared directory.

    Raises:
      ValueError: no lists, a bad row in one, named by its line, no readable video,
        or clips of fewer than two labels.
      OSError: no room.
    """
    if not 0 < crop_samples <= num_samples:
        raise ValueError(
            f"crop_samples is {crop_samples}, expected 1 to num_samples = {num_samples}"
        )
    builder = BUILDERS[dataset](
        data_dir=data_dir,
        config=_config(sample_rate_hz, num_samples, image_size),
        file_format="array_record",
    )
    builder.workers, builder.progress = workers, progress
    material = builder.material(pathlib.Path(manual_dir))
    directory = pathlib.Path(builder.data_dir)
    with _alone(directory.parents[1], data_dir):
        digest = fingerprint(material, crop_samples)
        if _made_from(directory) == digest:
            announce(f"already there: {directory}")
            material.account = json.loads((directory / ACCOUNT).read_text("utf-8"))
        else:
            _build(builder, material, crop_samples, digest, announce)
    tell(material.account, announce)
    return directory


def _config(sample_rate_hz: int, num_samples: int, image_size: int) -> VideosConfig:
    """Return the usual form of clips, or one that is named by its numbers."""
    form = (sample_rate_hz, num_samples, image_size)
    if form == (FULL.sample_rate_hz, FULL.num_samples, FULL.image_size):
        return FULL
    return VideosConfig(
        name="-".join(map(str, form)),
        description=f"{sample_rate_hz} Hz, {num_samples} samples, {image_size} pixels.",
        sample_rate_hz=sample_rate_hz,
        num_samples=num_samples,
        image_size=image_size,
    )


def _build(
    builder: Videos,
    material: Material,
    crop_samples: int,
    digest: str,
    announce: Callable[[str], None],
) -> None:
    found, listed = len(material.sources), len(material.lists.items)
    announce(f"{builder.name}: {found} of {listed} videos are there")
    directory = pathlib.Path(builder.data_dir)
    _sweep(directory, material.cache.folder)
    try:
        with _little_memory():
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    manual_dir=material.manual_dir,
                    # What was built of other videos goes.
                    download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS,
                    try_download_gcs=False,
                )
            )
    except tf.errors.OpError as error:
        reason = str(error.message).partition(";")[0]
        raise OSError(f"cannot write {directory} ({reason})") from error
    catalogue = write_arrays(material, directory, crop_samples, digest)
    save_account(material.account, directory)
    write_manifests(catalogue, directory, MANIFEST_MIXTURES, OTHER_MIXTURES, announce)
    save_record(catalogue, directory)  # last: it marks the end


@contextlib.contextmanager
def _little_memory() -> Iterator[None]:
    """Let TFDS go to disk before it holds a gigabyte of examples."""
    usual = shuffle.MAX_MEM_BUFFER_SIZE
    shuffle.MAX_MEM_BUFFER_SIZE = BUFFER_BYTES
    try:
        yield
    finally:
        shuffle.MAX_MEM_BUFFER_SIZE = usual


def fingerprint(material: Material, crop_samples: int) -> str:
    """Return what changes with lists, videos, or the form of the clips."""
    whole = hashlib.sha256()
    for path in material.lists.files:
        whole.update(path.read_bytes())
    made = (VERSION, material.cache.form, material.num_samples, crop_samples)
    whole.update(repr(made).encode())
    for item_id, source in sorted(material.sources.items()):
        whole.update(f"{item_id}={stamp(source)}\n".encode())
    return whole.hexdigest()[:16]


def _made_from(directory: pathlib.Path) -> str | None:
    """Return the fingerprint of what was built; None if it is not complete."""
    try:
        record = json.loads((directory / "catalogue.json").read_text("utf-8"))
        return str(record["description"]["made_from"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _alone(folder: pathlib.Path, data_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Keep two preparations of a data set apart."""
    import fcntl  # absent on Windows, where the package still imports

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"data_dir is {str(data_dir)!r}, expected one where {folder.name} is "
                "not being prepared already"
            ) from error
        yield


def _sweep(directory: pathlib.Path, extracted: pathlib.Path) -> None:
    """Delete the drafts of a run that was killed: they may be large."""
    for folder in (directory, *extracted.glob("*")):
        remove_drafts(folder)
    for path in directory.parent.glob(f"incomplete.*_{VERSION}"):
        shutil.rmtree(path, ignore_errors=True)


def tell(account: dict[str, Any], announce: Callable[[str], None]) -> None:
    """Say how many videos are present, missing and unreadable, and which."""
    present, missing, bad, pictureless, repeated = (
        account[name]
        for name in (
            "present",
            "missing",
            "unreadable",
            "without_pictures",
            "repeated",
        )
    )
    announce(
        f"{account['dataset']}: {len(present)} present, {len(missing)} missing, "
        f"{len(bad)} unreadable; {len(pictureless)} without pictures, {len(repeated)} "
        f"rows of the lists left out as repeated ({ACCOUNT} names them)"
    )
    for name, reason in list(bad.items())[:SHOWN]:
        announce(f"  unreadable: {name}: {reason}")
    if len(bad) > SHOWN:
        announce(f"  and {len(bad) - SHOWN} more")
