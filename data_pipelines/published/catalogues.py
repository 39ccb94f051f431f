"""The prepared data set that a published list's mixtures are made of."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.catalogue import Catalogue
from data_pipelines.published.frames import Pictures
from data_pipelines.published.mixtures import SPLIT
from data_pipelines.published.plans import Benchmark, Plan, Recording

VERSION = "1.0.0"


def make_catalogue(
    benchmark: Benchmark,
    plan: Plan,
    wanted: Sequence[Recording],
    clips: np.ndarray,
    rate: int,
    pictures: Pictures,
) -> Catalogue:
    """Lay out the recordings of a list.

    Args:
      benchmark: The protocol.
      plan: The list; its words are the classes and the captions.
      wanted: Its recordings, a row each.
      clips: int16 [R, num_samples], zeros where a recording is missing.
      rate: Sampling rate in Hz.
      pictures: What asks for targets.
    """
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
