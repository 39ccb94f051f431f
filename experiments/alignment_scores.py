"""How well an encoder knows what belongs together: what every stage is scored by."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.catalogue import Catalogue
from data_pipelines.manifest import render
from experiments.batching import in_batches
from experiments.embeddings import EmbeddingBank
from marssep_jax.contrastive import discriminability

WATCHED = ("text", "audio", "image")
"""What each stage is for, in their order: earlier ones' R@1 may not be forgotten."""


class ValidationMixtures(NamedTuple):
    """Targets [N, K, ...] of mixtures [N, ...] and the captions [N, K] that ask."""

    target: np.ndarray
    mixture: np.ndarray
    text_id: np.ndarray

    def heard(self, hear: Callable[[Any], Any]) -> "ValidationMixtures":
        """Replace waveforms by what a function makes of them [n, t] -> [n, d]."""
        flat = in_batches(hear, _flat(self.target, 2), np.float32)
        target = flat.reshape(*self.target.shape[:2], -1)
        return self._replace(
            target=target, mixture=in_batches(hear, self.mixture, np.float32)
        )


def _flat(value: np.ndarray, axes: int) -> np.ndarray:
    return value.reshape(-1, *value.shape[axes:])


def validation_mixtures(
    manifest: dict[str, Any], catalogue: Catalogue
) -> ValidationMixtures:
    """Render the mixtures of a manifest."""
    entries = manifest["mixtures"]
    target = np.stack([render(entry, catalogue) for entry in entries])
    asked = [[query["text_id"] for query in entry["queries"]] for entry in entries]
    return ValidationMixtures(target, target.sum(axis=1), np.asarray(asked))


def recall_metrics(
    bank: EmbeddingBank, catalogue: Catalogue, split: str
) -> dict[str, float]:
    """Return similarity gaps and R@1 of clips with captions, clips and pictures.

    Clips are compared with other clips: even rows of a split with odd ones.
    Pictures are those of the test artists. What has no match is left out.
    """
    clips, label = bank.audio[split], catalogue.clip_label[split]
    shown = catalogue.image_split == 1
    pairs = {
        "text": (clips, bank.text, label, catalogue.text_label),
        "audio": (clips[::2], clips[1::2], label[::2], label[1::2]),
        "image": (clips, bank.image[shown], label, catalogue.image_label[shown]),
    }
    metrics: dict[str, float] = {}
    for kind, (left, right, left_label, right_label) in pairs.items():
        here = np.isin(left_label, right_label)  # some classes have no picture
        if here.any():
            arrays: Any = (left[here], right, left_label[here], right_label)
            found = discriminability(*arrays)
            metrics |= {f"eval/{kind}_{n}": float(v) for n, v in found.items()}
    return metrics


def mixture_gap(heard: ValidationMixtures, text: np.ndarray) -> dict[str, float]:
    """Return by how much a caption is nearer to its target than to the mixture.

    The paper's measure of a reward that can tell separation from none: 0.0035
    before alignment, 0.0258 after it (method section 7).

    Args:
      heard: embeddings of targets and mixtures.
      text: embeddings of the captions [M, D].
    """
    asked = text[heard.text_id]
    nearer = np.sum(asked * (heard.target - heard.mixture[:, None]), axis=-1)
    return {"eval/mixture_gap": float(nearer.mean())}


def forgotten(
    before: dict[str, float], after: dict[str, float], stage: int, limit: float
) -> str | None:
    """Name a score of an earlier stage that fell by more than a share; None if none.

    Args:
      before: scores at the stage's start.
      after: scores at its end.
      stage: its number from 0; those of stages before it are watched.
      limit: the share of its value that a score may lose.
    """
    for kind in WATCHED[:stage]:
        for direction in ("", "_back"):
            name = f"eval/{kind}_recall_at_1{direction}"
            if name in before and after[name] < (1.0 - limit) * before[name]:
                return name
    return None
