"""From rendered clips and drawings to the catalogue of ``instruments``."""

import dataclasses
import importlib.metadata
import pathlib
from typing import Any

import numpy as np

from data_pipelines import fonts, melodies, pictures
from data_pipelines.catalogue import Catalogue
from data_pipelines.ensemble import (
    CROP_SAMPLES,
    NUM_SAMPLES,
    SAMPLE_RATE_HZ,
    VERSION,
    Amounts,
    Clips,
    captions,
)
from data_pipelines.pinned import Source


def make_catalogue(
    dataset: str,
    amounts: Amounts,
    sources: dict[str, pathlib.Path],
    clips: Clips,
    npm_sources: tuple[Source, ...],
) -> Catalogue:
    """Gather clips, captions and pictures into a catalogue.

    Args:
      dataset: Name of the data set.
      amounts: How much is made.
      sources: Paths of fonts and drawings by key.
      clips: The clips of every split.
      npm_sources: What npm carried of it; without any there are no pictures.

    Returns:
      The catalogue.
    """
    names = tuple(i.name for i in melodies.INSTRUMENTS)
    bank = pictures.empty_bank()
    if npm_sources:
        bank = pictures.make_bank(
            {source.key: sources[source.key] for source in fonts.PICTURES},
            names,
            test_artist=fonts.TEST_ARTIST,
            views_per_class=amounts.views,
            seed=amounts.seed,
        )
    label = np.repeat(np.arange(len(names)), len(melodies.TEMPLATES))
    return Catalogue(
        dataset=dataset,
        class_names=names,
        families=tuple(melodies.FAMILIES.index(i.family) for i in melodies.INSTRUMENTS),
        texts=captions(),
        text_label=label.astype(np.int32),
        images=bank.images,
        image_label=bank.label,
        image_split=bank.split,
        sample_rate_hz=SAMPLE_RATE_HZ,
        num_samples=NUM_SAMPLES,
        clips={s: np.stack([audio for _, _, audio in clips[s]]) for s in clips},
        clip_label={
            s: np.asarray([c for _, c, _ in clips[s]], np.int32) for s in clips
        },
        clip_id={s: tuple(name for name, _, _ in clips[s]) for s in clips},
        description=_describe(clips, bank, npm_sources),
    )


def _describe(
    clips: Clips, bank: pictures.Bank, npm_sources: tuple[Source, ...]
) -> dict[str, Any]:
    used = [fonts.TRAIN_FONT, *npm_sources]
    tools = ["numpy", "soxr", "tinysoundfont", *(("resvg_py",) if npm_sources else ())]
    return {
        "version": VERSION,
        "crop_samples": CROP_SAMPLES,
        "reduced": not npm_sources,
        "family_names": list(melodies.FAMILIES),
        "counts": {s: len(clips[s]) for s in clips} | {"pictures": len(bank.images)},
        "classes_without_picture": [
            instrument.name
            for c, instrument in enumerate(melodies.INSTRUMENTS)
            if c not in bank.label
        ],
        "image_names": list(bank.name),
        "licences": {source.key: source.licence for source in used},
        "sources": [dataclasses.asdict(source) for source in used],
        "versions": {tool: importlib.metadata.version(tool) for tool in tools},
    }


def licence_text(catalogue: Catalogue, sources: dict[str, pathlib.Path]) -> str:
    """Return what LICENSES.txt says: who made what, under which terms."""
    lines = ["What the data in this folder was made from", ""]
    for item in catalogue.description["sources"]:
        lines.append(
            f"{item['key']}: {item['author']}; {item['licence']}; "
            f"{Source(**item).where}; SHA-256 {item['sha256']}"
        )
    lines += ["", "The pictures are varied views of the drawings named above."]
    for key, path in sources.items():
        if key.endswith("-notice"):
            lines += ["", f"--- {key.removesuffix('-notice')} ---", path.read_text()]
    return "\n".join(lines).rstrip() + "\n"
