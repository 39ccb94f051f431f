"""Fixed evaluation mixtures: what is in them, how to ask for it, and a hash.

Two laboratories that hold the same clips score the same mixtures: a source is
integer samples times one factor, rounded to float32 once. A source that nothing
asks for has ``null`` as its query; it is heard, but not scored.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_pipelines.catalogue import (
    Catalogue,
    crop_samples,
    require_split,
    rows_by_label,
    save_text,
)
from data_pipelines.mixture_draws import draw_mixture, possible_companions
from data_pipelines.rendering import render_source

SEED = 18
"""Of the manifests that are written beside a user's recordings."""

Manifest = dict[str, Any]


def build_manifest(
    catalogue: Catalogue,
    split: str,
    num_mixtures: int,
    seed: int,
    *,
    num_samples: int | None = None,
    num_sources: int = 2,
    same_family: bool = False,
) -> Manifest:
    """Draw the mixtures of an evaluation split.

    Args:
      catalogue: A prepared data set.
      split: Which clips to draw from.
      num_mixtures: How many mixtures.
      seed: Seed; mixture number i depends on nothing but it and i.
      num_samples: Length of the mixtures; None takes the data set's own.
      num_sources: Sources of a mixture, two or more, all of different classes.
      same_family: Draw the classes of a mixture from one family: the hard case.

    Returns:
      The manifest, ready for JSON.

    Raises:
      ValueError: the split is absent or has fewer classes, or classes of one family,
        than sources.
    """
    require_split(catalogue, split)
    length = crop_samples(catalogue) if num_samples is None else num_samples
    if not 0 < length <= catalogue.num_samples:
        raise ValueError(
            f"num_samples is {length}, expected 1 to {catalogue.num_samples}"
        )
    rows = rows_by_label(catalogue.clip_label[split], len(catalogue.class_names))
    if num_sources < 2:
        raise ValueError(f"num_sources is {num_sources}, expected >= 2")
    groups = possible_companions(catalogue, rows, num_sources, same_family)
    if not groups:
        raise ValueError(
            f"split is {split!r}, expected one with at least {num_sources} classes"
            + (" of one family" if same_family else "")
        )
    return {
        "dataset": catalogue.dataset,
        "split": split,
        "version": catalogue.description.get("version", ""),
        "sample_rate_hz": catalogue.sample_rate_hz,
        "num_samples": length,
        "seed": seed,
        "mixtures": [
            entry | {"sha256": fingerprint(render(entry, catalogue))}
            for number in range(num_mixtures)
            for entry in [
                draw_mixture(
                    catalogue, split, rows, groups, length, seed, number, num_sources
                )
            ]
        ],
    }


def render(entry: dict[str, Any], catalogue: Catalogue) -> np.ndarray:
    """Make the sources of one mixture; the mixture is their sum.

    Args:
      entry: One of a manifest's mixtures.
      catalogue: The data set it was drawn from.

    Returns:
      float32 [sources, num_samples]; see `data_pipelines.rendering`.

    Raises:
      ValueError: the data set has no such clip.
    """
    return np.stack([render_source(entry, s, catalogue) for s in entry["sources"]])


def fingerprint(sources: np.ndarray) -> str:
    """Return the SHA-256 of float32 little-endian samples, in hex."""
    return hashlib.sha256(np.ascontiguousarray(sources, "<f4").tobytes()).hexdigest()


def verify(manifest: Manifest, catalogue: Catalogue) -> None:
    """Check that the data set still yields the manifest's audio, bit for bit.

    Raises:
      ValueError: another data set, or a mixture that sounds different.
    """
    for name, here in (
        ("dataset", catalogue.dataset),
        ("sample_rate_hz", catalogue.sample_rate_hz),
    ):
        if manifest[name] != here:
            raise ValueError(
                f"{name} is {here!r}, expected {manifest[name]!r} as in the manifest"
            )
    for entry in manifest["mixtures"]:
        found = fingerprint(render(entry, catalogue))
        if found != entry["sha256"]:
            raise ValueError(
                f"mixture {entry['id']} has SHA-256 {found}, expected {entry['sha256']}"
            )


def write_manifest(manifest: Manifest, path: str | os.PathLike[str]) -> None:
    """Write a manifest as JSON, whole or not at all."""
    save_text(pathlib.Path(path), json.dumps(manifest, indent=1) + "\n")


def write_manifests(
    catalogue: Catalogue,
    directory: pathlib.Path,
    mixtures: Mapping[str, int],
    others: int,
    announce: Callable[[str], None],
) -> None:
    """Write manifests of all splits but ``train``; say where there can be none.

    Args:
      catalogue: A prepared data set.
      directory: Where they go, as manifest_SPLIT.json.
      mixtures: Mixtures by split.
      others: Mixtures of the other splits.
      announce: Called with each line the user should read.
    """
    for split, label in catalogue.clip_label.items():
        if split == "train":
            continue
        if len(np.unique(label)) < 2:
            announce(f"no manifest for {split}: it has fewer than 2 classes")
            continue
        count = mixtures.get(split, others)
        try:
            manifest = build_manifest(catalogue, split, count, SEED)
        except ValueError as error:  # a class with nothing loud enough
            announce(f"no manifest for {split}: {error}")
            continue
        write_manifest(manifest, directory / f"manifest_{split}.json")


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest.

    Raises:
      ValueError: no such file, or no manifest in it.
    """
    try:
        manifest = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"manifest is {str(path)!r}, expected a readable JSON file"
        ) from error
    if not isinstance(manifest, dict) or "mixtures" not in manifest:
        raise ValueError(
            f"manifest is {str(path)!r}, expected a list of mixtures in it"
        )
    return manifest
