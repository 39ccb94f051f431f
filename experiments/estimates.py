"""Estimates that somebody else made, one wav file a target.

The layout is ``DIR/<mixture id>/<number>.wav`` or ``DIR/<mixture id>/<class>.wav``:
the number of the source in the manifest, from 0, or the name of its class, whose
spaces may be underscores. Files are mono, of the mixtures' rate and length; nothing
is resampled, cut or scaled. A file that is not there is a missing estimate: it is
counted and named, and its target is not scored.
"""

import hashlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from marssep_jax.audio import open_audio


def candidates(
    folder: pathlib.Path, entry: Mapping[str, Any], class_names: Sequence[str]
) -> list[list[pathlib.Path]]:
    """Return the files that each source of a mixture may have, the number first."""
    place = folder / entry["id"]
    found = []
    for number, source in enumerate(entry["sources"]):
        names = [str(number)]
        label = source["label"]
        if 0 <= label < len(class_names):
            name = class_names[label].replace("/", "_")
            names += [name, name.replace(" ", "_")]
        found.append([place / f"{name}.wav" for name in dict.fromkeys(names)])
    return found


def find_files(
    folder: pathlib.Path, entry: Mapping[str, Any], class_names: Sequence[str]
) -> list[pathlib.Path | None]:
    """Return the estimate of each source of a mixture; None where there is none."""
    return [
        next((path for path in paths if path.is_file()), None)
        for paths in candidates(folder, entry, class_names)
    ]


def read_estimates(
    folder: pathlib.Path,
    entry: Mapping[str, Any],
    class_names: Sequence[str],
    *,
    rate_hz: int,
    num_samples: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Read the estimates of one mixture.

    Returns:
      Waveforms [k, t], zeros where there is none, and whether there is one [k].

    Raises:
      ValueError: naming a file with another rate, length or number of channels, or
        one that cannot be read.
    """
    files = find_files(folder, entry, class_names)
    waves = np.zeros((len(files), num_samples), np.float32)
    for number, path in enumerate(files):
        if path is not None:
            waves[number] = _read(path, rate_hz, num_samples)
    return waves, np.asarray([path is not None for path in files])


def _read(path: pathlib.Path, rate_hz: int, num_samples: int) -> np.ndarray:
    label = f"estimates has {str(path)!r} with"
    with open_audio(path, "estimates") as file:
        rate, channels, *_ = file.info
        if rate != rate_hz:
            raise ValueError(f"{label} a rate of {rate} Hz, expected {rate_hz} Hz")
        if channels != 1:
            raise ValueError(f"{label} {channels} channels, expected mono")
        wave = np.concatenate([block[0] for block in file.blocks()])
    if len(wave) != num_samples:
        raise ValueError(
            f"{label} {len(wave)} samples, expected {num_samples} as the mixture has"
        )
    return wave


def hash_estimates(
    folder: pathlib.Path, manifest: Mapping[str, Any], class_names: Sequence[str]
) -> str:
    """Return a short hash of the estimates of a manifest's mixtures.

    Raises:
      ValueError: no folder, or one without a single estimate.
    """
    if not folder.is_dir():
        raise ValueError(f"estimates is {str(folder)!r}, expected an existing folder")
    digest, count = hashlib.sha256(), 0
    for name, path in _named(folder, manifest, class_names):
        if path is None:
            continue
        count += 1
        with open(path, "rb") as file:
            own = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{name} {own}\n".encode())
    if not count:
        raise ValueError(
            f"estimates is {str(folder)!r}, expected <mixture id>/0.wav and so on in "
            "it for mixtures of the manifest"
        )
    return digest.hexdigest()[:16]


def _named(
    folder: pathlib.Path, manifest: Mapping[str, Any], class_names: Sequence[str]
) -> Iterator[tuple[str, pathlib.Path | None]]:
    for entry in manifest["mixtures"]:
        for number, path in enumerate(find_files(folder, entry, class_names)):
            yield f"{entry['id']}/{number}", path
