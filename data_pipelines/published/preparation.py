"""Prepare a published benchmark from the recordings that a user has."""

import collections
import hashlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from data_pipelines.catalogue import Catalogue, save_catalogue
from data_pipelines.manifest import Manifest, write_manifest
from data_pipelines.published.frames import Pictures, read_pictures
from data_pipelines.published.mixtures import MISSING, SPLIT, build_published
from data_pipelines.published.plans import Benchmark, Plan, Recording
from data_pipelines.published.recordings import (
    Folder,
    UnreadableError,
    beginning,
    central_crop,
    crop_start,
    length_at,
    read_int16,
)

VERSION = "1.0.0"
SHOWN = 10
"""Mixtures that are named on the screen; the manifest names all."""

Progress = Callable[[str, int], Callable[[int], None]]


def no_progress(name: str, total: int) -> Callable[[int], None]:
    """Tell nobody how far work is."""
    del name, total
    return lambda done: None


def prepare_published(
    benchmark: Benchmark,
    manual_dir: str | pathlib.Path,
    data_dir: str | pathlib.Path,
    *,
    sample_rate_hz: int | None = None,
    image_size: int = 224,
    announce: Callable[[str], None] = print,
    progress: Progress = no_progress,
) -> pathlib.Path:
    """Build the mixtures of a published list that a folder's recordings allow.

    Args:
      benchmark: Of `data_pipelines.published.benchmarks.BENCHMARKS`.
      manual_dir: The user's recordings, and the list if it comes with them.
      data_dir: Folder of all data sets.
      sample_rate_hz: Another rate than the protocol's, where it states no length.
      image_size: Side of the pictures that ask for targets.
      announce: Called with each line the user should read.
      progress: Told how far reading is.

    Returns:
      The prepared directory with ``manifest_test.json`` in it. What was there before
      is made again: recordings may have come or gone.

    Raises:
      ValueError: no list, a bad row, another rate than the protocol allows, or not
        one mixture that can be made; nothing is written then.
    """
    rate = benchmark.sample_rate_hz if sample_rate_hz is None else sample_rate_hz
    if benchmark.num_samples is not None and rate != benchmark.sample_rate_hz:
        raise ValueError(
            f"sample_rate_hz is {rate}, expected {benchmark.sample_rate_hz} as "
            f"{benchmark.name} has it"
        )
    source, root = pathlib.Path(manual_dir), pathlib.Path(data_dir)
    plan = benchmark.read(source)
    wanted = _recordings(plan)
    paths, problems = _find(source, wanted)
    length = benchmark.num_samples or max(
        (length_at(path, rate) for path in paths.values()), default=0
    )
    _require_any(source, plan, problems, len(paths) if length else 0)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{benchmark.name}-") as scratch:
        clips = np.lib.format.open_memmap(
            pathlib.Path(scratch, "clips.npy"), "w+", np.int16, (len(wanted), length)
        )
        hear = progress(f"read {benchmark.name}", len(wanted))
        notes = {}
        for row, recording in enumerate(wanted):
            if recording.id in paths:
                try:
                    audio = read_int16(paths[recording.id], rate)
                except UnreadableError as error:
                    problems[recording.id] = str(error)
                else:
                    clips[row] = _crop(recording, audio, length, rate)
                    if note := _length_note(audio, benchmark, recording, rate):
                        notes[recording.id] = note
            hear(row + 1)
        pictures = read_pictures(source, plan, image_size)
        catalogue = _make_catalogue(benchmark, plan, wanted, clips, rate, pictures)
        manifest = build_published(
            benchmark, plan, catalogue, problems, pictures.by_recording
        )
        manifest["notes"] = notes
        _require_any(source, plan, problems, len(manifest["mixtures"]))
        directory = root / benchmark.name / str(rate) / VERSION
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "catalogue.json").unlink(missing_ok=True)
        write_manifest(manifest, directory / f"manifest_{SPLIT}.json")
        save_catalogue(catalogue, directory)
    for line in account(benchmark, manifest):
        announce(line)
    return directory


def account(benchmark: Benchmark, manifest: Manifest) -> Iterator[str]:
    """Yield lines that say what there is of a list, and what is missing."""
    made, listed = len(manifest["mixtures"]), manifest["list"]["mixtures"]
    yield f"{benchmark.name}: {benchmark.credit}"
    if listed != benchmark.size:
        yield f"the list has {listed} mixtures, the published one {benchmark.size}"
    yield f"{made} of {listed} mixtures, SHA-256 {manifest['mixtures_sha256']}"
    left_out = manifest["left_out"]
    if left_out:
        named = {n: r for left in left_out for n, r in left["recordings"].items()}
        reasons = collections.Counter(r.partition(":")[0] for r in named.values())
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        yield f"{len(left_out)} mixtures left out, for recordings: {counts}"
    for left in left_out[:SHOWN]:
        why = ", ".join(f"{n} is {r}" for n, r in left["recordings"].items())
        yield f"  {left['id']}: {why}"
    if len(left_out) > SHOWN:
        yield "  and more, which the manifest names under left_out"
    if manifest["notes"]:
        name, note = next(iter(manifest["notes"].items()))
        yield f"{len(manifest['notes'])} recordings of another length: {name} {note}"
    yield f"untouched mixture: mean SDR {manifest['untouched_sdr_db']:.2f} dB"


def _recordings(plan: Plan) -> list[Recording]:
    """Return what a list asks for, each recording once, in its order."""
    return list(dict.fromkeys(r for p in plan.mixtures for r in p.recordings))


def _find(
    manual_dir: pathlib.Path, wanted: list[Recording]
) -> tuple[dict[str, pathlib.Path], dict[str, str]]:
    """Return files by recording, and which recordings are missing."""
    anywhere = any(recording.file is None for recording in wanted)
    folder = Folder(manual_dir) if anywhere else None
    paths = {}
    for recording in wanted:
        path = recording.file
        if path is None and folder is not None:
            path = folder.find(recording)
        if path is not None and path.is_file():
            paths[recording.id] = path
    return paths, {r.id: MISSING for r in wanted if r.id not in paths}


def _require_any(
    manual_dir: pathlib.Path, plan: Plan, problems: dict[str, str], count: int
) -> None:
    if count:
        return
    first = next((f", the first: {n} is {why}" for n, why in problems.items()), "")
    raise ValueError(
        f"manual_dir is {str(manual_dir)!r}, expected both recordings of a mixture of "
        f"{plan.where} in it, to be heard: {len(problems)} cannot be used{first}"
    )


def _crop(
    recording: Recording, audio: np.ndarray, length: int, rate: int
) -> np.ndarray:
    if recording.num_frames is None:
        return beginning(audio, length)
    return central_crop(audio, recording.num_frames, rate)


def _length_note(
    audio: np.ndarray, benchmark: Benchmark, recording: Recording, rate: int
) -> str | None:
    """Say where a recording is not as long as the protocol's."""
    if benchmark.num_samples is None:
        return None
    seconds = f"has {len(audio) / rate:.2f} s"
    if recording.num_frames is not None:
        if len(audio) < benchmark.num_samples:
            return f"{seconds}, repeated to fill its crop"
        end = crop_start(recording.num_frames, rate) + benchmark.num_samples - 1
        return f"{seconds}, its crop ends in zeros" if len(audio) < end else None
    if len(audio) < benchmark.num_samples:
        return f"{seconds}, zeros follow"
    return f"{seconds}, cut" if len(audio) > benchmark.num_samples else None


def _make_catalogue(
    benchmark: Benchmark,
    plan: Plan,
    wanted: list[Recording],
    clips: np.ndarray,
    rate: int,
    pictures: Pictures,
) -> Catalogue:
    words = {planned.words for planned in plan.mixtures}
    words |= {planned.other for planned in plan.mixtures}
    class_names = tuple(sorted(words))
    label = {name: number for number, name in enumerate(class_names)}
    heard: dict[str, int] = {}
    for planned in plan.mixtures:
        for recording, name in zip(
            planned.recordings, (planned.words, planned.other), strict=True
        ):
            heard.setdefault(recording.id, label[name])
    image_label = [heard[name] for name in pictures.owners]
    return Catalogue(
        dataset=benchmark.name,
        class_names=class_names,
        families=tuple(range(len(class_names))),
        texts=class_names,
        text_label=np.arange(len(class_names), dtype=np.int32),
        images=pictures.pixels,
        image_label=np.asarray(image_label, np.int32),
        image_split=np.ones(len(image_label), np.int32),
        sample_rate_hz=rate,
        num_samples=clips.shape[1],
        clips={SPLIT: clips},
        clip_label={SPLIT: np.asarray([heard[r.id] for r in wanted], np.int32)},
        clip_id={SPLIT: tuple(recording.id for recording in wanted)},
        description=_describe(benchmark, clips, rate, pictures),
    )


def _describe(
    benchmark: Benchmark, clips: np.ndarray, rate: int, pictures: Pictures
) -> dict[str, Any]:
    digest = hashlib.sha256(pictures.pixels.tobytes())
    for clip in clips:
        digest.update(clip.tobytes())
    return {
        # Embeddings are kept by version: they are of these recordings only.
        "version": f"{VERSION}-{digest.hexdigest()[:12]}",
        "config": str(rate),
        "credit": benchmark.credit,
        "crop_samples": clips.shape[1],
        "reduced": False,
        "licences": {},
        "versions": {"numpy": np.__version__},
        "counts": {SPLIT: len(clips), "pictures": len(pictures.pixels)},
    }
