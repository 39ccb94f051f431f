"""Prepare a data set and its evaluation mixtures.

Examples:
  python -m experiments.prepare --dataset=instruments
  python -m experiments.prepare --dataset=instruments_wide
  python -m experiments.prepare --dataset=folder --manual_dir=my_recordings
  python -m experiments.prepare --dataset=vggsound --manual_dir=vggsound_videos
  python -m experiments.prepare --benchmark=vggsound_clean_plus --manual_dir=wavs

`instruments` renders eighteen sampled instruments, `instruments_wide` the same with
training clips from three collections of recordings instead of one. `folder` reads a
CSV or JSONL table with the columns audio (a path relative to the table), label or
caption, and if wanted image and split.

`vggsound` and `music` read videos, or recordings and folders of frames, that lie
anywhere under --manual_dir and are named by the published lists: vggsound.csv (or
MUSIC*solo*.json), or train.csv, val.csv and test.csv, there or in its folder
`lists`. They are decoded by all cores into data/DATASET/extracted-*; a run that was
stopped goes on there. What is missing or unreadable is counted, and named with its
reason in account.json. By estimate the whole of VGGSound needs 100 GB there and
200 GB for the data set.

--benchmark makes the mixtures of a published list out of the recordings under
--manual_dir, and a manifest that `experiments.evaluate` takes. vggsound_clean_plus
(OmniSep's 98 pairs) and music_clean_plus (CLIPSep's 46 targets, OmniSep's pool) find
videos or recordings as vggsound and music do, without a list; pictures are a video's,
or frames/ID/000006.jpg and its neighbours. dcase2024_task9 wants
lass_synthetic_validation.csv and lass_validation beside it, and audiosep_audiocaps,
_audioset, _clotho, _esc50, _music and _vggsound AudioSep's folder `evaluation`. What
is missing is named and counted; other mixtures stay as they are, bit for bit.
"""

import json
import pathlib
import sys
from typing import Any

from absl import flags, logging

from experiments import command

VIDEOS = ("vggsound", "music")
DATASET = flags.DEFINE_enum(
    "dataset",
    None,
    ["instruments", "instruments_wide", "folder", *VIDEOS],
    "Which data set.",
)
BENCHMARK = flags.DEFINE_string("benchmark", None, "Which published list of mixtures.")
MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", None, "What there is already: a table and recordings, or videos."
)
DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of all data sets.")
REDUCED = flags.DEFINE_bool(
    "reduced", False, "Leave out what npm carries: pictures and unseen recordings."
)
SAMPLE_RATE = flags.DEFINE_integer(
    "sample_rate_hz", None, "Rate of the clips: 11025 (folder), 16000 (videos)."
)
NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", None, "Length of a clip: 36864 (folder), 160000 (videos)."
)
CROP_SAMPLES = flags.DEFINE_integer(
    "crop_samples", None, "Length of a crop: 32767 (folder), 65535 (videos)."
)
IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Side of the pictures in pixels: 224 (videos)."
)
WORKERS = flags.DEFINE_integer(
    "workers", None, "Processes that decode videos: the cores.", lower_bound=1
)
JSON = flags.DEFINE_string("json", None, "Write the summary to this file too.")


def main() -> None:
    """Prepare the data set or the benchmark that the flags name."""
    sizes = _sizes(SAMPLE_RATE, NUM_SAMPLES, CROP_SAMPLES)
    more = _sizes(IMAGE_SIZE, WORKERS)
    if (DATASET.value is None) == (BENCHMARK.value is None):
        raise ValueError(
            f"dataset is {DATASET.value} and benchmark is {BENCHMARK.value}, expected "
            "one of them"
        )
    if BENCHMARK.value is not None:
        summarise(_prepare_benchmark(BENCHMARK.value))
        return
    manual_dir = _manual_dir()
    # Imported late, so that --help and flag errors need no TensorFlow.
    import tensorflow_datasets as tfds

    from data_pipelines.mixing import keep_off_accelerators

    keep_off_accelerators()
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)  # TFDS warns of settings that it did not make
    summarise(_prepare(manual_dir, sizes, more))


def _prepare_benchmark(name: str) -> pathlib.Path:
    from data_pipelines.published.benchmarks import BENCHMARKS
    from data_pipelines.published.preparation import prepare_published
    from experiments.progress import progress_of

    if name not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        raise ValueError(f"benchmark is {name!r}, expected one of {known}")
    if not MANUAL_DIR.value:
        raise ValueError("manual_dir is missing, expected a folder of recordings")
    return prepare_published(
        BENCHMARKS[name],
        MANUAL_DIR.value,
        DATA_DIR.value,
        progress=progress_of,
        **_sizes(SAMPLE_RATE, IMAGE_SIZE),
    )


def _manual_dir() -> str | None:
    """Return where the user's recordings are; None if the data set wants none."""
    if DATASET.value not in ("folder", *VIDEOS):
        return None
    if not MANUAL_DIR.value:
        what = "a table of recordings" if DATASET.value == "folder" else "a folder"
        raise ValueError(f"manual_dir is missing, expected {what}")
    if DATASET.value in VIDEOS:
        from data_pipelines.video_lists import read_lists

        read_lists(pathlib.Path(MANUAL_DIR.value), DATASET.value)  # before long work
    return MANUAL_DIR.value


def _sizes(*given: flags.FlagHolder) -> dict[str, Any]:
    """Return the sizes that were asked for; the others keep their default."""
    for flag in given:
        if flag.value is not None and flag.value < 1:
            raise ValueError(f"{flag.name} is {flag.value}, expected 1 or more")
    return {flag.name: flag.value for flag in given if flag.value is not None}


def _prepare(
    manual_dir: str | None, sizes: dict[str, Any], more: dict[str, Any]
) -> pathlib.Path:
    if manual_dir is None:
        from data_pipelines import instruments

        config = instruments.REDUCED if REDUCED.value else instruments.FULL
        return instruments.prepare(
            DATA_DIR.value,
            config,
            builder_class=instruments.BUILDERS[str(DATASET.value)],
        )
    if DATASET.value == "folder":
        from data_pipelines import folder

        return folder.prepare(manual_dir, DATA_DIR.value, **sizes)
    from data_pipelines import video_catalogue
    from experiments.progress import progress_of

    return video_catalogue.prepare(
        str(DATASET.value),
        manual_dir,
        DATA_DIR.value,
        progress=progress_of,
        **sizes,
        **more,
    )


def summarise(directory: pathlib.Path) -> None:
    """Print what was made and under which licences, and write it as JSON."""
    from data_pipelines.catalogue import load_catalogue, save_text

    catalogue = load_catalogue(directory)
    described = catalogue.description
    print(f"prepared {catalogue.dataset} in {directory}")
    print(f"{len(catalogue.class_names)} classes, {len(catalogue.texts)} captions")
    for name, count in described["counts"].items():
        print(f"  {name}: {count}")
    for source in described.get("sources", ()):
        print(f"licence of {source['key']}: {source['licence']}, {source['author']}")
    if described["reduced"]:
        print("REDUCED DATA SET: no pictures, no unseen recordings")
    if JSON.value:
        keys = ("version", "reduced", "counts", "licences", "versions")
        summary: dict[str, Any] = {
            "dataset": catalogue.dataset,
            "directory": str(directory),
        }
        summary |= {key: described[key] for key in keys}
        if "videos" in described:
            summary["videos"] = described["videos"]
        if BENCHMARK.value is not None:
            summary["benchmark"] = _benchmark_summary(directory)
        save_text(pathlib.Path(JSON.value), json.dumps(summary, indent=1) + "\n")


def _benchmark_summary(directory: pathlib.Path) -> dict[str, Any]:
    from data_pipelines.manifest import read_manifest

    manifest = read_manifest(directory / "manifest_test.json")
    keys = ("list", "left_out", "notes", "untouched_sdr_db", "mixtures_sha256")
    made = {"mixtures": len(manifest["mixtures"])}
    return made | {key: manifest[key] for key in keys}


if __name__ == "__main__":
    command.run(main)
