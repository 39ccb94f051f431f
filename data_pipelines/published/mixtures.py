"""Mixtures of a published list out of the recordings that are there."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.catalogue import Catalogue
from data_pipelines.manifest import Manifest, fingerprint, render
from data_pipelines.published.plans import (
    AT_SNR,
    HALVED,
    STORED,
    Benchmark,
    Plan,
    Planned,
    Recording,
)
from data_pipelines.published.recordings import crop_start
from data_pipelines.rendering import at_gain

SPLIT = "test"
PEAK = 0.9
"""dcase: what passes full scale is brought to this peak."""

MISSING, SILENT = "missing", "silent"


class LeftOut(NamedTuple):
    """A mixture that cannot be made: its id, and what is wrong with which recording."""

    id: str
    reasons: dict[str, str]


def build_published(
    benchmark: Benchmark,
    plan: Plan,
    catalogue: Catalogue,
    problems: Mapping[str, str],
    images: Mapping[str, Sequence[int]] | None = None,
) -> Manifest:
    """Make the manifest of a published list.

    Rows, names and hashes of a mixture hang on its own recordings only: one that
    cannot be made is left out by name, and moves no other.

    Args:
      benchmark: The protocol.
      plan: The list.
      catalogue: The recordings, a row for each that the list asks for.
      problems: What is wrong with a recording, by its id.
      images: Pictures of a recording, by its id.

    Returns:
      The manifest, as `data_pipelines.manifest` has it. ``list`` names the list,
      ``left_out`` what is missing of it, ``scored_samples`` is how much of a mixture
      is scored (null: all), and ``mixtures_sha256`` is one hash of all mixtures. Of
      a source, ``start`` is the sample of its recording that the crop begins at, and
      ``sha256`` is the crop's, int16: it says which recording two laboratories differ
      in.
    """
    desk = _Desk(
        benchmark,
        catalogue,
        {name: row for row, name in enumerate(catalogue.clip_id[SPLIT])},
        {name: number for number, name in enumerate(catalogue.class_names)},
        problems,
        images or {},
    )
    made = [_make(planned, desk) for planned in plan.mixtures]
    left_out = [outcome for outcome in made if isinstance(outcome, LeftOut)]
    ratios = [outcome.sdr_db for outcome in made if isinstance(outcome, _Made)]
    mixtures = [outcome.entry for outcome in made if isinstance(outcome, _Made)]
    hashes = "\n".join(f"{entry['id']} {entry['sha256']}" for entry in mixtures)
    return {
        "dataset": catalogue.dataset,
        "split": SPLIT,
        "version": catalogue.description["version"],
        "sample_rate_hz": catalogue.sample_rate_hz,
        "num_samples": catalogue.num_samples,
        "scored_samples": benchmark.scored_samples,
        "list": {
            "name": benchmark.name,
            "sha256": plan.sha256,
            "mixtures": len(plan.mixtures),
        },
        "left_out": [{"id": left.id, "recordings": left.reasons} for left in left_out],
        "untouched_sdr_db": round(float(np.mean(ratios)), 4) if ratios else None,
        "mixtures_sha256": hashlib.sha256(hashes.encode()).hexdigest(),
        "mixtures": mixtures,
    }


def untouched_sdr_db(sources: np.ndarray, scored_samples: int | None = None) -> float:
    """Return the SDR of the untouched mixture against its target, in dB.

    10 log10(|s|^2 / |x - s|^2), the plain SNR: what a system scores that does
    nothing, and the first row of every table.

    Args:
      sources: float32 [2, T], the target first.
      scored_samples: The beginning that counts; None takes all.
    """
    target, rest = np.asarray(sources[:, :scored_samples], np.float64)
    return 10 * math.log10(np.sum(target**2) / np.sum(rest**2))


class _Desk(NamedTuple):
    """What every mixture is made with."""

    benchmark: Benchmark
    catalogue: Catalogue
    rows: Mapping[str, int]
    label: Mapping[str, int]
    problems: Mapping[str, str]
    images: Mapping[str, Sequence[int]]


class _Made(NamedTuple):
    entry: dict[str, Any]
    sdr_db: float


def _make(planned: Planned, desk: _Desk) -> _Made | LeftOut:
    benchmark, catalogue = desk.benchmark, desk.catalogue
    names = [recording.id for recording in planned.recordings]
    reasons = {name: desk.problems[name] for name in names if name in desk.problems}
    if reasons:
        return LeftOut(planned.id, reasons)
    crops = [catalogue.clips[SPLIT][desk.rows[name]] for name in names]
    if reasons := _silence(planned, crops, benchmark):
        return LeftOut(planned.id, reasons)
    sources = [
        _source(recording, crop, desk)
        for recording, crop in zip(planned.recordings, crops, strict=True)
    ]
    gains = _gains(planned, crops, benchmark.mixing)
    words = planned.words, planned.other
    for source, gain, word in zip(sources, gains, words, strict=True):
        source |= {"gain": gain, "label": desk.label[word]}
    if benchmark.mixing == STORED:
        sources[1]["less"] = {"clip_id": names[0], "row": desk.rows[names[0]]}
    entry = {
        "id": planned.id,
        "split": SPLIT,
        "num_samples": catalogue.num_samples,
        "sources": sources,
        "queries": [_query(planned, desk), None],
        "absent": None,
    }
    waves = render(entry, catalogue)
    entry["sha256"] = fingerprint(waves)
    return _Made(entry, untouched_sdr_db(waves, benchmark.scored_samples))


def _source(recording: Recording, crop: np.ndarray, desk: _Desk) -> dict[str, Any]:
    samples = np.ascontiguousarray(crop, "<i2").tobytes()
    return {
        "clip_id": recording.id,
        "row": desk.rows[recording.id],
        "start": crop_start(recording.num_frames, desk.catalogue.sample_rate_hz),
        "offset": 0,
        "sha256": hashlib.sha256(samples).hexdigest(),
    }


def _query(planned: Planned, desk: _Desk) -> dict[str, Any]:
    """Return what asks for the target; recordings that would are in no list."""
    return {
        "text_id": desk.label[planned.words],
        "audio_rows": [],
        "image_ids": list(desk.images.get(planned.recordings[0].id, ())),
    }


def _silence(
    planned: Planned, crops: Sequence[np.ndarray], benchmark: Benchmark
) -> dict[str, str]:
    """Say which source has nothing to be heard where it is scored."""
    heard = [crop[: benchmark.scored_samples] for crop in crops]
    if benchmark.mixing == STORED:
        heard[1] = heard[1].astype(np.int64) - heard[0]
    pairs = zip(planned.recordings, heard, strict=True)
    return {recording.id: SILENT for recording, crop in pairs if not np.any(crop)}


def _gains(
    planned: Planned, crops: Sequence[np.ndarray], mixing: str
) -> tuple[float, float]:
    """Return the factors of both recordings, float32 values."""
    if mixing == HALVED:
        return 0.5, 0.5
    if mixing == STORED:
        return 1.0, 1.0
    assert mixing == AT_SNR
    assert planned.snr_db is not None
    power, noise = (int(np.sum(crop.astype(np.int64) ** 2)) for crop in crops)
    gain = _float32(math.sqrt(power / noise) * 10.0 ** (-planned.snr_db / 20))
    whole = at_gain(crops[0], 1.0).astype(np.float64) + at_gain(crops[1], gain)
    peak = float(np.abs(whole).max())
    if peak <= 1:
        return 1.0, gain
    return _float32(PEAK / peak), _float32(gain * PEAK / peak)


def _float32(value: float) -> float:
    return float(np.float32(value))
