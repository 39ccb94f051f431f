"""One's own recordings as a TFDS builder: a table beside audio files."""

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines import folder_table
from data_pipelines.catalogue import Catalogue, save_catalogue
from data_pipelines.folder_table import BadRows, Row
from data_pipelines.levels import to_int16
from data_pipelines.manifest import write_manifests

VERSION = "1.0.0"
IMAGE_SIZE = 48
SILENCE = 1e-4
"""Windows below this RMS are left out."""

MANIFEST_MIXTURES = {"validation": 96}
OTHER_MIXTURES = 500


class Material(dict[str, list[tuple[str, int, int]]]):
    """Clips by split as (clip id, label, row number), samples in scratch files."""

    def __init__(self, scratch: pathlib.Path, num_samples: int) -> None:
        super().__init__()
        self.scratch, self.num_samples = scratch, num_samples

    def samples(self, split: str) -> np.ndarray:
        """Map the split's clips, int16 [C, num_samples]."""
        shape = (len(self[split]), self.num_samples)
        return np.memmap(self.scratch / f"{split}.raw", np.int16, "r", shape=shape)


@dataclasses.dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
    """What form the clips get.

    Attributes:
      material: The decoded clips; None when only reading what was built.
      sample_rate_hz: Sampling rate.
      num_samples: Length of a clip.
    """

    material: Material | None = dataclasses.field(default=None, repr=False)
    sample_rate_hz: int = 11_025
    num_samples: int = 36_864


class Folder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder ``folder``; `prepare` is the way to make one."""

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Clips of a table of one's own recordings.",
            features=tfds.features.FeaturesDict(
                {
                    "audio": tfds.features.Tensor(
                        shape=(self.builder_config.num_samples,),
                        dtype=np.int16,
                        encoding=tfds.features.Encoding.BYTES,
                    ),
                    "label": tfds.features.Scalar(np.int32),
                    "clip_id": tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        del dl_manager  # everything is here already
        return {split: self._generate_examples(split) for split in self._material()}

    def _material(self) -> Material:
        material = self.builder_config.material
        if material is None:
            raise ValueError("material is None, expected folder.prepare to build this")
        return material

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        samples = self._material().samples(split)
        for clip_id, label, number in self._material()[split]:
            audio = np.array(samples[number])
            yield clip_id, {"audio": audio, "label": label, "clip_id": clip_id}


def read_clips(row: Row, sample_rate_hz: int, num_samples: int) -> list[np.ndarray]:
    """Decode one recording and cut it into clips.

    Channels are averaged. A rest shorter than half a clip is dropped, a longer
    one and a recording shorter than a clip are padded with zeros.

    Args:
      row: The recording.
      sample_rate_hz: Sampling rate of the clips.
      num_samples: Length of the clips.

    Returns:
      int16 [num_samples] each, silent ones left out.

    Raises:
      ValueError: the file is no audio, not finite, or silent throughout.
    """
    import soundfile
    import soxr

    expected = f"{row.where}: audio is {row.name!r}, expected"
    try:
        wave, rate = soundfile.read(row.audio, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise ValueError(f"{expected} readable audio") from error
    if not np.isfinite(wave).all():
        raise ValueError(f"{expected} finite samples")
    mono = soxr.resample(wave.mean(axis=1), rate, sample_rate_hz, quality="HQ")
    count = max(1, int(len(mono) / num_samples + 0.5))
    padded = np.zeros(count * num_samples, np.float32)
    padded[: min(len(mono), len(padded))] = mono[: len(padded)]
    windows = padded.reshape(count, num_samples)
    heard = [w for w in windows if np.sqrt(np.mean(w**2)) > SILENCE]
    if not heard:
        raise ValueError(f"{expected} something to be heard")
    return [to_int16(window) for window in heard]


def _read_image(path: pathlib.Path, where: str) -> np.ndarray:
    """Return the middle square of a picture, uint8 [48, 48, 3].

    As pictures given as queries are read: upright, on white, in Lanczos' filter.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{where}: image is {str(path)!r}, expected a readable picture"
        ) from error
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture).convert("RGB")
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return np.asarray(ImageOps.fit(flat, size, Image.Resampling.LANCZOS), np.uint8)


def _decode(
    rows: list[Row],
    labels: dict[str, int],
    scratch: pathlib.Path,
    config: FolderConfig,
) -> tuple[Material, list[tuple[np.ndarray, int, int]]]:
    """Decode every recording into scratch files, and every picture."""
    material, images, problems = Material(scratch, config.num_samples), [], []
    for row in rows:
        label = labels[row.label]
        try:
            clips = read_clips(row, config.sample_rate_hz, config.num_samples)
            if row.image is not None:
                image = _read_image(row.image, row.where)
                images.append((image, label, int(row.split != "train")))
        except ValueError as error:
            problems.append(str(error))
            continue
        own = material.setdefault(row.split, [])
        with open(scratch / f"{row.split}.raw", "ab") as file:
            for number, clip in enumerate(clips):
                line = row.where.rpartition(":")[2]
                own.append((f"{row.name}#{number}@{line}", label, len(own)))
                file.write(clip.tobytes())
    if problems:
        raise BadRows(problems)
    return material, images


def _make_catalogue(
    rows: list[Row],
    labels: dict[str, int],
    material: Material,
    images: list[tuple[np.ndarray, int, int]],
    config: FolderConfig,
    crop_samples: int,
) -> Catalogue:
    captions = sorted({(labels[row.label], row.caption) for row in rows})
    blank = np.zeros((0, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    return Catalogue(
        dataset="folder",
        class_names=tuple(labels),
        families=tuple(range(len(labels))),
        texts=tuple(caption for _, caption in captions),
        text_label=np.asarray([label for label, _ in captions], np.int32),
        images=np.stack([i for i, _, _ in images]) if images else blank,
        image_label=np.asarray([label for _, label, _ in images], np.int32),
        image_split=np.asarray([split for _, _, split in images], np.int32),
        sample_rate_hz=config.sample_rate_hz,
        num_samples=config.num_samples,
        clips={split: material.samples(split) for split in material},
        clip_label={
            s: np.asarray([label for _, label, _ in material[s]], np.int32)
            for s in material
        },
        clip_id={s: tuple(name for name, _, _ in material[s]) for s in material},
        description={
            "version": VERSION,
            "config": config.name,
            "crop_samples": crop_samples,
            "reduced": False,
            "licences": {},
            "versions": {"numpy": np.__version__},
            "counts": {split: len(material[split]) for split in material}
            | {"pictures": len(images)},
        },
    )


def prepare(
    manual_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str],
    *,
    sample_rate_hz: int = 11_025,
    num_samples: int = 36_864,
    crop_samples: int = 32_767,
    announce: Callable[[str], None] = print,
) -> pathlib.Path:
    """Build a data set of one's own recordings, with manifests of its tests.

    Args:
      manual_dir: A table (CSV, JSONL), or the folder that holds exactly one.
      data_dir: Folder of all data sets.
      sample_rate_hz: Sampling rate of the clips.
      num_samples: Length of a clip.
      crop_samples: Length of the crops that training takes of it.
      announce: Called with each line the user should read.

    Returns:
      The prepared directory; its name holds a hash of all that was read.

    Raises:
      ValueError: a bad row, named by its line, or fewer than two labels; nothing
        is written then.
    """
    if not 0 < crop_samples <= num_samples:
        raise ValueError(
            f"crop_samples is {crop_samples}, expected 1 to num_samples = {num_samples}"
        )
    table = folder_table.find_table(pathlib.Path(manual_dir))
    rows = folder_table.read_table(table)
    names = sorted({row.label for row in rows})
    if len(names) < 2:
        raise ValueError(
            f"{table} has the one label {names[0]!r}, expected at least 2: mixtures "
            "are made of different classes"
        )
    labels = {label: number for number, label in enumerate(names)}
    digest = folder_table.fingerprint(table, rows)
    name = f"{table.stem}-{digest}-{sample_rate_hz}-{num_samples}-{crop_samples}"
    root = pathlib.Path(data_dir)
    directory = root / "folder" / name / VERSION
    if (directory / "catalogue.json").is_file():
        announce(f"already there: {directory}")
        return directory
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".folder-") as scratch:
        config = FolderConfig(
            name=name, sample_rate_hz=sample_rate_hz, num_samples=num_samples
        )
        announce(f"decoding {len(rows)} recordings of {table}")
        material, images = _decode(rows, labels, pathlib.Path(scratch), config)
        config.material = material
        builder = Folder(data_dir=root, config=config, file_format="array_record")
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
        catalogue = _make_catalogue(
            rows, labels, material, images, config, crop_samples
        )
        write_manifests(
            catalogue, directory, MANIFEST_MIXTURES, OTHER_MIXTURES, announce
        )
        save_catalogue(catalogue, directory)
    return directory
