"""Prepare a data set and its evaluation mixtures.

Examples:
  python -m experiments.prepare --dataset=instruments
  python -m experiments.prepare --dataset=folder --manual_dir=my_recordings

`instruments` renders eighteen sampled instruments. `folder` reads a CSV or JSONL
table with the columns audio (a path relative to the table), label or caption,
and if wanted image and split.
"""

import json
import pathlib
import sys

from absl import flags

from experiments import command

DATASET = flags.DEFINE_enum(
    "dataset", None, ["instruments", "folder"], "Which data set.", required=True
)
MANUAL_DIR = flags.DEFINE_string(
    "manual_dir", None, "Table of recordings, or the folder that holds it (folder)."
)
DATA_DIR = flags.DEFINE_string("data_dir", "data", "Folder of all data sets.")
REDUCED = flags.DEFINE_bool(
    "reduced", False, "Leave out what npm carries: pictures and unseen recordings."
)
SAMPLE_RATE = flags.DEFINE_integer(
    "sample_rate_hz", 11_025, "Sampling rate of the clips (folder)."
)
NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", 36_864, "Length of a clip in samples (folder)."
)
CROP_SAMPLES = flags.DEFINE_integer(
    "crop_samples", 32_767, "Length of a training crop in samples (folder)."
)
JSON = flags.DEFINE_string("json", None, "Write the summary to this file too.")


def main() -> None:
    """Prepare the data set that the flags name."""
    manual_dir = _manual_dir()
    # Imported late, so that --help and flag errors need no TensorFlow.
    import tensorflow_datasets as tfds

    from data_pipelines.mixing import keep_off_accelerators

    keep_off_accelerators()
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    summarise(_prepare(manual_dir))


def _manual_dir() -> str | None:
    """Return where the user's recordings are; None if the data set wants none."""
    if DATASET.value != "folder":
        return None
    if not MANUAL_DIR.value:
        raise ValueError("manual_dir is missing, expected a table of recordings")
    return MANUAL_DIR.value


def _prepare(manual_dir: str | None) -> pathlib.Path:
    if manual_dir is not None:
        from data_pipelines import folder

        return folder.prepare(
            manual_dir,
            DATA_DIR.value,
            sample_rate_hz=SAMPLE_RATE.value,
            num_samples=NUM_SAMPLES.value,
            crop_samples=CROP_SAMPLES.value,
        )
    from data_pipelines import instruments

    config = instruments.REDUCED if REDUCED.value else instruments.FULL
    return instruments.prepare(DATA_DIR.value, config)


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
        summary = {"dataset": catalogue.dataset, "directory": str(directory)}
        summary |= {key: described[key] for key in keys}
        save_text(pathlib.Path(JSON.value), json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    command.run(main)
