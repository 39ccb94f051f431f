"""Prepare a published benchmark from the recordings that a user has."""

import collections
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import numpy as np

from data_pipelines.catalogue import save_catalogue
from data_pipelines.manifest import Manifest, write_manifest
from data_pipelines.published.catalogues import VERSION, make_catalogue
from data_pipelines.published.frames import gather, pictures_of
from data_pipelines.published.mixtures import MISSING, SPLIT, build_published
from data_pipelines.published.plans import Benchmark, Plan, Recording
from data_pipelines.published.recordings import (
    Heard,
    UnreadableError,
    beginning,
    central_crop,
    crop_start,
    find,
    length_at,
    read_recording,
)
from data_pipelines.video_sources import Index, Source

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
    folder, root = pathlib.Path(manual_dir), pathlib.Path(data_dir)
    plan = benchmark.read(folder)
    wanted = list(dict.fromkeys(r for p in plan.mixtures for r in p.recordings))
    sources, problems = _find(folder, wanted)
    length = benchmark.num_samples or max(
        (length_at(source.media, rate) for source in sources.values()), default=0
    )
    _require_any(folder, plan, problems, len(sources) if length else 0)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{benchmark.name}-") as scratch:
        clips = np.lib.format.open_memmap(
            pathlib.Path(scratch, "clips.npy"), "w+", np.int16, (len(wanted), length)
        )
        hear = progress(f"read {benchmark.name}", len(wanted))
        targets = {planned.recordings[0].id for planned in plan.mixtures}
        notes, frames = {}, {}
        for row, recording in enumerate(wanted):
            source = sources.get(recording.id)
            heard = _read(recording, source, rate, image_size, problems)
            if source is not None and heard is not None:
                clips[row] = _crop(recording, heard.audio, length, rate)
                if note := _length_note(heard.audio, benchmark, recording, rate):
                    notes[recording.id] = note
                if recording.id in targets:
                    own = pictures_of(recording, source, heard, image_size)
                    frames[recording.id] = own
            hear(row + 1)
        pictures = gather(frames, image_size)
        catalogue = make_catalogue(benchmark, plan, wanted, clips, rate, pictures)
        manifest = build_published(
            benchmark, plan, catalogue, problems, pictures.by_recording()
        )
        manifest["notes"] = notes
        _require_any(folder, plan, problems, len(manifest["mixtures"]))
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


def _find(
    manual_dir: pathlib.Path, wanted: list[Recording]
) -> tuple[dict[str, Source], dict[str, str]]:
    """Return files by recording, and which recordings are missing."""
    index = Index(manual_dir)
    sources = {}
    for recording in wanted:
        source = find(recording, index)
        if source is not None:
            sources[recording.id] = source
    return sources, {r.id: MISSING for r in wanted if r.id not in sources}


def _read(
    recording: Recording,
    source: Source | None,
    rate: int,
    image_size: int,
    problems: dict[str, str],
) -> Heard | None:
    """Read a recording, or say among the problems why that cannot be done."""
    if source is None:
        return None
    try:
        return read_recording(recording, source, rate, image_size)
    except UnreadableError as error:
        problems[recording.id] = str(error)
        return None


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
