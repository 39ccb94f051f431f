"""The embedded data set: eighteen sampled instruments as a TFDS builder.

Training clips and the ``seen`` test come from one SoundFont, the ``unseen`` test
from another whose recordings no stage hears. What is generated is new music, so
no clip of one split is in another. ``instruments_wide`` differs in its training
clips only: they are played on a second font and on recorded notes as well.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines import fonts, melodies
from data_pipelines.assembly import licence_text, make_catalogue
from data_pipelines.catalogue import Catalogue, save_catalogue, save_text
from data_pipelines.ensemble import (
    NUM_SAMPLES,
    VERSION,
    Amounts,
    Clips,
    captions,
    render_splits,
)
from data_pipelines.manifest import build_manifest, write_manifest
from data_pipelines.npm import UnavailableError, npm_files
from data_pipelines.pinned import Source


@dataclasses.dataclass(eq=False)
class InstrumentsConfig(tfds.core.BuilderConfig):
    """How much is made.

    Attributes:
      reduced: Leave out what npm carries: pictures and the ``unseen`` split.
      amounts: Sizes of everything.
    """

    reduced: bool = False
    amounts: Amounts = dataclasses.field(default_factory=Amounts)


FULL = InstrumentsConfig(
    name="full", description="Two fonts, pictures, an unseen-recordings test."
)
REDUCED = InstrumentsConfig(
    name="reduced",
    description="One font, no pictures, no unseen-recordings test.",
    reduced=True,
)


class Instruments(tfds.core.GeneratorBasedBuilder):
    """TFDS builder ``instruments``; everything is generated locally."""

    wide = False

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [FULL, REDUCED]

    def _info(self) -> tfds.core.DatasetInfo:
        names = [i.name for i in melodies.INSTRUMENTS]
        return self.dataset_info_from_configs(
            description="Sampled instruments that play generated music.",
            features=tfds.features.FeaturesDict(
                {
                    "audio": tfds.features.Tensor(
                        shape=(NUM_SAMPLES,),
                        dtype=np.int16,
                        encoding=tfds.features.Encoding.BYTES,
                    ),
                    "label": tfds.features.ClassLabel(names=names),
                    "family": tfds.features.ClassLabel(names=list(melodies.FAMILIES)),
                    "caption": tfds.features.Text(),
                    "clip_id": tfds.features.Text(),
                }
            ),
        )

    @functools.cached_property
    def sources(self) -> dict[str, pathlib.Path]:
        """Paths of the third-party files, obtained on first use."""
        root = pathlib.Path(self._data_dir_root) / "downloads" / "instruments"
        npm = npm_files(root, self.npm_sources)
        return {fonts.TRAIN_FONT.key: fonts.train_font(), **npm}

    @property
    def npm_sources(self) -> tuple[Source, ...]:
        """What npm carries of it."""
        if self.builder_config.reduced:
            return ()
        return fonts.NPM_SOURCES + (fonts.WIDE_SOURCES if self.wide else ())

    @functools.cached_property
    def clips(self) -> Clips:
        """The clips of every split, rendered on first use."""
        config = self.builder_config
        return render_splits(
            config.amounts, self.sources, reduced=config.reduced, wide=self.wide
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager  # what is obtained is obtained by the npm client
        return {split: self._generate_examples(split) for split in self.clips}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        texts = captions()
        for number, (clip_id, label, audio) in enumerate(self.clips[split]):
            own = texts[label * len(melodies.TEMPLATES) :][: len(melodies.TEMPLATES)]
            yield (
                clip_id,
                {
                    "audio": audio,
                    "label": label,
                    "family": melodies.INSTRUMENTS[label].family,
                    "caption": own[number % len(own)],
                    "clip_id": clip_id,
                },
            )


class InstrumentsWide(Instruments):
    """TFDS builder ``instruments_wide``: more recordings to train on."""

    wide = True


BUILDERS = {"instruments": Instruments, "instruments_wide": InstrumentsWide}


def prepare(
    data_dir: str | os.PathLike[str],
    config: InstrumentsConfig = FULL,
    announce: Callable[[str], None] = print,
    *,
    builder_class: type[Instruments] = Instruments,
) -> pathlib.Path:
    """Build the data set, its catalogue, its licences and its manifests.

    What is there already is kept. Where npm packages cannot be had, the reduced
    set is built instead and said to be so.

    Args:
      data_dir: Folder of all data sets.
      config: How much to make.
      announce: Called with each line the user should read.
      builder_class: Which of the two sets; the wide one is never reduced.

    Returns:
      The prepared directory.

    Raises:
      ValueError: something needed is missing or is not the pinned file.
    """
    builder = builder_class(
        data_dir=data_dir, config=config, file_format="array_record"
    )
    directory = pathlib.Path(builder.data_dir)
    if (directory / "catalogue.json").is_file():
        announce(f"already there: {directory}")
        return directory
    try:
        announce(f"obtaining fonts and pictures for {config.name}")
        sources = builder.sources
    except UnavailableError as reason:
        if builder.wide:
            raise ValueError(
                f"{builder.name} needs what npm carries: {reason}"
            ) from None
        announce(f"REDUCED DATA SET: no pictures, no unseen recordings ({reason})")
        reduced = dataclasses.replace(config, **_reduced_fields(config))
        return prepare(data_dir, reduced, announce)
    announce("rendering clips")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    catalogue = make_catalogue(
        builder.name, config.amounts, sources, builder.clips, builder.npm_sources
    )
    save_text(directory / "LICENSES.txt", licence_text(catalogue, sources))
    _write_manifests(catalogue, config.amounts, directory)
    save_catalogue(catalogue, directory)  # last: its JSON marks the end
    return directory


def _reduced_fields(config: InstrumentsConfig) -> dict[str, Any]:
    name = "reduced" if config.name == "full" else f"{config.name}-reduced"
    return {"name": name, "reduced": True, "description": REDUCED.description}


def _write_manifests(
    catalogue: Catalogue, amounts: Amounts, directory: pathlib.Path
) -> None:
    for split, count, same_family in (
        ("validation", amounts.validation_mixtures, False),
        ("seen", amounts.test_mixtures, False),
        ("unseen", amounts.test_mixtures, False),
        ("unseen", amounts.test_mixtures, True),
    ):
        if split in catalogue.clips:
            manifest = build_manifest(
                catalogue, split, count, amounts.seed, same_family=same_family
            )
            name = f"manifest_{split}{'_family' if same_family else ''}.json"
            write_manifest(manifest, directory / name)
