"""How often an encoder knows what is meant by words that no caption has."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.catalogue import Catalogue, require_split
from experiments.compiled import embedder
from experiments.datasets import require_fit
from experiments.embeddings import normalised
from marssep_jax.bundle import load_bundle, resolve_bundle
from marssep_jax.config import EncoderConfig, FrontendConfig, from_dict
from marssep_jax.contrastive import discriminability
from marssep_jax.statistics import bootstrap_ci, paired_bootstrap_ci

COLUMNS = ("label", "paraphrase")
WAYS = ("audio", "captions")
"""A class is where the mean of its clips is, or the mean of its captions."""


class Paraphrase(NamedTuple):
    """Words for a class that its captions do not have."""

    label: str
    text: str


class Group(NamedTuple):
    """Unit embeddings [n, d] and their classes [n]."""

    vectors: np.ndarray
    label: np.ndarray


def read_table(path: str | pathlib.Path) -> list[Paraphrase]:
    """Read a table with the columns ``label`` and ``paraphrase``.

    Raises:
      ValueError: no such table, or a row that says nothing.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
    except (OSError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"table is {str(path)!r}, expected a CSV ({reason})"
        ) from error
    for number, row in enumerate(found, 2):
        if not all((row.get(name) or "").strip() for name in COLUMNS):
            raise ValueError(
                f"table is {str(path)!r}, expected a {' and a '.join(COLUMNS)} in row "
                f"{number}"
            )
    if not found:
        raise ValueError(f"table is {str(path)!r}, expected at least one row")
    return [Paraphrase(row["label"], row["paraphrase"]) for row in found]


def measure(
    checkpoint: str, catalogue: Catalogue, split: str, rows: Sequence[Paraphrase]
) -> dict[str, Any]:
    """Return how often a model's encoder knows what paraphrases mean.

    Args:
      checkpoint: folder of the model, or of its run.
      catalogue: the data set.
      split: whose clips stand for the classes.
      rows: the paraphrases; those of classes without a clip are left out.

    Raises:
      ValueError: no model with an encoder, or a split or label that the data set
        does not have.
    """
    bundle = load_bundle(resolve_bundle(checkpoint))
    if not bundle.config.get("encoder") or bundle.encoder_params is None:
        raise ValueError(
            f"checkpoint is {checkpoint!r}, expected a model with an encoder in it"
        )
    frontend = from_dict(FrontendConfig, bundle.config["frontend"])
    config = from_dict(EncoderConfig, bundle.config["encoder"])
    require_fit(catalogue, frontend)
    require_split(catalogue, split)
    names, label = list(catalogue.class_names), catalogue.clip_label[split]
    if unknown := {row.label for row in rows} - set(names):
        raise ValueError(
            f"label is {min(unknown)!r}, expected a class of {catalogue.dataset}"
        )
    rows = [row for row in rows if names.index(row.label) in label]
    if not rows:
        raise ValueError(f"split is {split!r}, expected clips of a class in the table")
    texts = (*catalogue.texts, *(row.text for row in rows))
    asked = catalogue._replace(texts=texts, images=catalogue.images[:0])
    embed = embedder(config, frontend)
    bank = embed(bundle.encoder_params["encoder"], asked, (split,))
    captions, phrases = np.split(bank.text, [len(catalogue.texts)])
    meant = np.asarray([names.index(row.label) for row in rows])
    found, answers = score(
        Group(phrases, meant),
        Group(captions, catalogue.text_label),
        Group(bank.audio[split], label),
    )
    small = config.architecture == "small"
    return {
        "checkpoint": checkpoint,
        "text_tower": config.text_tower if small else config.architecture,
        "dataset": catalogue.dataset,
        "split": split,
        **found,
        "rows": [
            row._asdict() | {way: names[answers[way][number]] for way in WAYS}
            for number, row in enumerate(rows)
        ],
    }


def score(
    phrases: Group, captions: Group, clips: Group
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Score embeddings; only classes that have a clip can be answers.

    Returns:
      By way the ``accuracy`` of the paraphrases with its interval ``ci95``;
      ``ordinary``, that of the captions by sound, with R@1 of clips among captions
      and back; ``chance``, the accuracy of a guess. And each paraphrase's answer.
    """
    present = np.unique(clips.label)
    known = np.isin(captions.label, present)
    captions = Group(captions.vectors[known], captions.label[known])
    means = {"audio": _means(clips), "captions": _means(captions)}
    answers = {way: _nearest(phrases, means[way]) for way in WAYS}
    arrays: Any = (clips.vectors, captions.vectors, clips.label, captions.label)
    recall = discriminability(*arrays)
    plain = _nearest(captions, means["audio"]) == captions.label
    found = {
        "chance": 1 / len(present),
        **{way: _accuracy(answers[way] == phrases.label) for way in WAYS},
        "ordinary": _accuracy(plain)
        | {name: float(recall[name]) for name in ("recall_at_1", "recall_at_1_back")},
    }
    return found, answers


def paired(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return by way how much more often the first model is right than the second."""
    found: dict[str, Any] = {"minus": second["checkpoint"]}
    for way in WAYS:
        a, b = (
            [float(row[way] == row["label"]) for row in record["rows"]]
            for record in (first, second)
        )
        low, high = paired_bootstrap_ci(a, b, 0)
        found[way] = {
            "accuracy": float(np.mean(a) - np.mean(b)),
            "ci95": [low, high],
            "num": len(a),
        }
    return found


def _means(group: Group) -> Group:
    labels = np.unique(group.label)
    rows = [group.vectors[group.label == label].mean(axis=0) for label in labels]
    return Group(normalised(np.stack(rows)), labels)


def _nearest(asked: Group, means: Group) -> np.ndarray:
    return means.label[np.argmax(asked.vectors @ means.vectors.T, axis=-1)]


def _accuracy(hits: np.ndarray) -> dict[str, Any]:
    low, high = bootstrap_ci(hits, 0)
    return {"accuracy": float(hits.mean()), "ci95": [low, high], "num": len(hits)}
