"""Which clips, captions and pictures go into batch number s: a pure function.

The plan is made for the whole batch of all hosts and then cut, so that the
number of hosts changes nothing. It reads no audio.
"""

import dataclasses

import numpy as np

from data_pipelines.catalogue import Catalogue, require_split, rows_by_label

NUM_MODALITIES = 3
"""Text, audio, image, in this order."""


@dataclasses.dataclass(frozen=True)
class MixtureSpec:
    """What a training mixture is.

    Attributes:
      batch_size: Mixtures in a batch, over all hosts.
      num_sources: Sources in a mixture, of different classes.
      num_absent: Further queries for classes that are not in the mixture.
      gain_db: Gains are uniform within plus and minus this.
      eq_db: Standard deviation at the equaliser's knots; 0 switches it off.
      max_offset: Largest crop offset in samples; a crop that passes the clip's
        end goes on at its start. None: as far as the clip reaches.
      seed: Another seed gives another sequence of batches.
      query_concentration: Dirichlet parameter of the weights of the modalities.
      num_samples: Length of a crop.
      same_family_share: Share of mixtures whose first two sources are of one
        family, the hard case.
    """

    batch_size: int
    num_sources: int = 2
    num_absent: int = 0
    gain_db: float = 5.0
    eq_db: float = 4.0
    max_offset: int | None = None
    seed: int = 0
    query_concentration: float = 0.5
    num_samples: int = 32_767
    same_family_share: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, low in (("batch_size", 1), ("num_sources", 1), ("num_absent", 0)):
            if getattr(self, name) < low:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected at least {low}"
                )
        if not 0 <= self.same_family_share <= 1:
            raise ValueError(
                f"same_family_share is {self.same_family_share}, expected 0 to 1"
            )
        if not self.query_concentration > 0:
            raise ValueError(
                f"query_concentration is {self.query_concentration}, expected > 0"
            )


class Index:
    """Rows of clips, captions and training pictures by class, for one split."""

    def __init__(self, catalogue: Catalogue, split: str) -> None:
        require_split(catalogue, split)
        num_classes = len(catalogue.class_names)
        self.clips = rows_by_label(catalogue.clip_label[split], num_classes)
        self.texts = rows_by_label(catalogue.text_label, num_classes)
        # Class number num_classes stands for pictures of test artists: never drawn.
        shown = np.where(catalogue.image_split == 0, catalogue.image_label, num_classes)
        self.images = rows_by_label(shown, num_classes)
        self.labels = np.asarray([c for c in range(num_classes) if len(self.clips[c])])
        family = np.asarray(catalogue.families)
        self.siblings = [
            self.labels[(family[self.labels] == family[c]) & (self.labels != c)]
            for c in range(num_classes)
        ]


def generator(seed: int, step: int, stream: int) -> np.random.Generator:
    """Return the generator of one batch; any batch can be made on its own."""
    key = np.random.SeedSequence([seed, step, stream]).generate_state(2, np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def pick(rng: np.random.Generator, rows: np.ndarray, other_than: int = -1) -> int:
    """Draw one row, if possible not the given one; -1 where there is none."""
    if len(rows) == 0:
        return -1
    choice = int(rows[rng.integers(len(rows))])
    if choice == other_than and len(rows) > 1:
        place = int(np.flatnonzero(rows == choice)[0])
        choice = int(rows[(place + rng.integers(1, len(rows))) % len(rows)])
    return choice


def draw_labels(
    rng: np.random.Generator, index: Index, spec: MixtureSpec
) -> np.ndarray:
    """Draw the different classes of one mixture's sources and absent queries."""
    count = spec.num_sources + spec.num_absent
    labels = rng.choice(index.labels, count, replace=False)
    siblings = index.siblings[labels[0]]
    hard = rng.random() < spec.same_family_share
    if hard and spec.num_sources > 1 and len(siblings):
        sibling = siblings[rng.integers(len(siblings))]
        # If it was drawn elsewhere, swap places, so that all stay different.
        labels[labels == sibling] = labels[1]
        labels[1] = sibling
    return labels


def plan_mixtures(index: Index, spec: MixtureSpec, step: int) -> dict[str, np.ndarray]:
    """Choose everything discrete of one batch.

    Args:
      index: Rows by class.
      spec: What a mixture is.
      step: Number of the batch.

    Returns:
      label, clip_id, text_id, audio_id, image_id: int32 [B, K]; query_weight:
      float32 [B, K, 3].
    """
    rng = generator(spec.seed, step, 0)
    shape = (spec.batch_size, spec.num_sources + spec.num_absent)
    label = np.stack([draw_labels(rng, index, spec) for _ in range(shape[0])])
    ids = {
        name: np.full(shape, -1, np.int32)
        for name in ("clip_id", "text_id", "audio_id", "image_id")
    }
    for place in np.ndindex(shape):
        c = label[place]
        clip = pick(rng, index.clips[c]) if place[1] < spec.num_sources else -1
        ids["clip_id"][place] = clip
        ids["audio_id"][place] = pick(rng, index.clips[c], clip)
        ids["text_id"][place] = pick(rng, index.texts[c])
        ids["image_id"][place] = pick(rng, index.images[c])
    weight = _weights(rng, ids, spec.query_concentration)
    return {"label": label.astype(np.int32), **ids, "query_weight": weight}


def _weights(
    rng: np.random.Generator, ids: dict[str, np.ndarray], concentration: float
) -> np.ndarray:
    """Draw Dirichlet weights over the modalities that an item has."""
    present = np.stack([ids[m + "_id"] >= 0 for m in ("text", "audio", "image")], -1)
    # The tiny addend keeps a row whose draws all underflow from being 0 / 0.
    draws = rng.gamma(concentration, size=present.shape) + 1e-30
    draws *= present
    return (draws / draws.sum(-1, keepdims=True)).astype(np.float32)


def plan_alignment(
    index: Index, batch_size: int, seed: int, step: int
) -> dict[str, np.ndarray]:
    """Choose everything discrete of one encoder batch.

    Args:
      index: Rows by class.
      batch_size: Items in the batch of all hosts.
      seed: Seed of the sequence.
      step: Number of the batch.

    Returns:
      int32 [B] each: label (classes evenly, each as often as any other up to 1),
      clip_id, positive_id, negative_id, residue_id, text_id, image_id.
    """
    rng = generator(seed, step, 1)
    rounds = -(-batch_size // len(index.labels))
    label = np.concatenate([rng.permutation(index.labels) for _ in range(rounds)])
    label = label[:batch_size]
    rows: dict[str, list[int]] = {name: [] for name in _ALIGNMENT_IDS}
    for c in label:
        others = index.labels[index.labels != c]
        siblings = index.siblings[c] if len(index.siblings[c]) else others
        clip = pick(rng, index.clips[c])
        rows["clip_id"].append(clip)
        rows["positive_id"].append(pick(rng, index.clips[c], clip))
        rows["negative_id"].append(pick(rng, index.clips[pick(rng, siblings)]))
        rows["residue_id"].append(pick(rng, index.clips[pick(rng, others)]))
        rows["text_id"].append(pick(rng, index.texts[c]))
        rows["image_id"].append(pick(rng, index.images[c]))
    ids = {name: np.asarray(values, np.int32) for name, values in rows.items()}
    return {"label": label.astype(np.int32), **ids}


def plan_sweep(
    index: Index, label: np.ndarray, views: int, batch_size: int, seed: int, step: int
) -> dict[str, np.ndarray]:
    """Choose a batch of all clips in order, each of them ``views`` times in a row.

    Args:
      index: Rows by class.
      label: Class of every clip of the split.
      views: How often each clip comes; residues differ.
      batch_size: Items in the batch; the last batch goes on at the first clip.
      seed: Seed of the residues.
      step: Number of the batch.

    Returns:
      int32 [B] each, as `plan_alignment`; positive and negative are the clip itself.
    """
    rng = generator(seed, step, 2)
    rows = np.arange(step * batch_size, (step + 1) * batch_size)
    clip = (rows // views % len(label)).astype(np.int32)
    residue = [
        pick(rng, index.clips[pick(rng, index.labels[index.labels != label[row]])])
        for row in clip
    ]
    return {
        "label": label[clip].astype(np.int32),
        **dict.fromkeys(("clip_id", "positive_id", "negative_id"), clip),
        "residue_id": np.asarray(residue, np.int32),
        **dict.fromkeys(("text_id", "image_id"), np.full(batch_size, -1, np.int32)),
    }


_ALIGNMENT_IDS = (
    "clip_id",
    "positive_id",
    "negative_id",
    "residue_id",
    "text_id",
    "image_id",
)
