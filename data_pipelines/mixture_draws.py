"""Draw what a fixed evaluation mixture holds, and what asks for its sources."""

from typing import Any

import numpy as np

from data_pipelines.catalogue import Catalogue

GAIN_DB = 5.0
"""The sources' levels differ by up to this, uniformly."""

AUDIO_QUERIES = 4
IMAGE_QUERIES = 8
"""Most clips and pictures of a query; their embeddings are averaged."""

QUIETEST = 1e-3
"""Crops below this RMS are not drawn: nothing can be heard of them."""


def possible_companions(
    catalogue: Catalogue, rows: list[np.ndarray], num_sources: int, same_family: bool
) -> dict[int, list[int]]:
    """Return what a mixture may hold beside each class that it may begin with."""
    heard = [label for label, own in enumerate(rows) if len(own)]
    family = catalogue.families
    beside = {
        label: [
            other
            for other in heard
            if other != label and (not same_family or family[other] == family[label])
        ]
        for label in heard
    }
    return {a: others for a, others in beside.items() if len(others) >= num_sources - 1}


def draw_mixture(
    catalogue: Catalogue,
    split: str,
    rows: list[np.ndarray],
    groups: dict[int, list[int]],
    length: int,
    seed: int,
    number: int,
    num_sources: int,
) -> dict[str, Any]:
    """Draw one mixture of a manifest; its number and the seed decide all of it."""
    key = np.random.SeedSequence([seed, number]).generate_state(2, np.uint64)
    rng = np.random.Generator(np.random.Philox(key=key))
    labels = np.asarray([c for c, own in enumerate(rows) if len(own)])
    shuffled = rng.permutation(labels).tolist()
    first = next(label for label in shuffled if label in groups)
    beside = [label for label in shuffled if label in groups[first]]
    chosen = [first, *beside][:num_sources]
    rest = [label for label in shuffled if label not in chosen]
    sources = [
        _draw_source(catalogue, split, rows[label], length, rng, gain)
        | {"label": label, "gain_db": gain}
        for label, gain in zip(chosen, _draw_gains(rng, num_sources), strict=True)
    ]
    queries = [_draw_query(catalogue, rows[s["label"]], rng, s) for s in sources]
    entry: dict[str, Any] = {
        "id": f"{split}-{number:04d}",
        "split": split,
        "num_samples": length,
        "sources": sources,
        "queries": queries,
        "absent": None,
    }
    if rest:
        text_id = _draw_text(catalogue, rest[0], rng)
        entry["absent"] = {"label": rest[0], "text_id": text_id}
    return entry


def _draw_gains(rng: np.random.Generator, num_sources: int) -> list[float]:
    """Draw the sources' gains in dB, so that no two differ by more than `GAIN_DB`."""
    if num_sources == 2:  # one draw, the difference: prepared mixtures depend on it
        half = round(float(rng.uniform(-GAIN_DB, GAIN_DB)) / 2, 2)
        return [half, -half]
    gains = rng.uniform(-GAIN_DB / 2, GAIN_DB / 2, num_sources)
    return [round(float(gain), 2) for gain in gains]


def _draw_source(
    catalogue: Catalogue,
    split: str,
    own: np.ndarray,
    length: int,
    rng: np.random.Generator,
    gain_db: float,
) -> dict[str, Any]:
    """Draw a clip and an offset where something is to be heard."""
    for _ in range(100):
        row = int(own[rng.integers(len(own))])
        offset = int(rng.integers(catalogue.num_samples - length + 1))
        crop = catalogue.clips[split][row, offset : offset + length]
        if np.sqrt(np.mean(crop.astype(np.float64) ** 2)) > QUIETEST * 2**15:
            clip_id = catalogue.clip_id[split][row]
            return {"clip_id": clip_id, "row": row, "offset": offset}
    raise ValueError(
        f"split {split!r} has only silent crops of class "
        f"{catalogue.clip_label[split][own[0]]}, expected audible ones"
    )


def _draw_text(catalogue: Catalogue, label: int, rng: np.random.Generator) -> int:
    return int(rng.choice(np.flatnonzero(catalogue.text_label == label)))


def _draw_query(
    catalogue: Catalogue,
    own: np.ndarray,
    rng: np.random.Generator,
    source: dict[str, Any],
) -> dict[str, Any]:
    """Draw what asks for a source, never the source's own clip."""
    label, row = source["label"], source["row"]
    others = own[own != row] if len(own) > 1 else own
    pictured = catalogue.image_label == label
    images = np.flatnonzero(pictured & (catalogue.image_split == 1))
    if not len(images):
        images = np.flatnonzero(pictured)
    return {
        "text_id": _draw_text(catalogue, label, rng),
        "audio_rows": sorted(rng.permutation(others)[:AUDIO_QUERIES].tolist()),
        "image_ids": sorted(rng.permutation(images)[:IMAGE_QUERIES].tolist()),
    }
