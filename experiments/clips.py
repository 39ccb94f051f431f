"""From rows of a data set to what the encoder's stages take."""

from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.catalogue import Catalogue
from experiments.embeddings import fitted
from experiments.settings import Settings
from marssep_jax.alignment import AlignmentBatch
from marssep_jax.encoders.inputs import EncoderInputs

HEARD = ("audio", "view", "positive", "negative")


def clip_stream(
    settings: Settings, catalogue: Catalogue, split: str, plan: Any, **options: Any
) -> Generator[dict[str, np.ndarray], None, None]:
    """Draw augmented clips; ``plan`` has the batch and the residues' settings."""
    from data_pipelines.pipeline import alignment_batches  # TensorFlow

    stream = alignment_batches(
        catalogue,
        split,
        plan.batch_size,
        residue_db=plan.residue_db,
        residue_share=plan.residue_share,
        num_samples=settings.frontend.num_samples,
        gain_db=settings.data.gain_db,
        eq_db=settings.data.eq_db,
        **options,
    )
    try:
        yield from stream
    finally:
        stream.close()


class Tables(NamedTuple):
    """Everything a batch of row numbers refers to.

    ``tokens`` int32 [M, L] of all captions; ``images`` uint8 [I + 1, S, S, 3] of
    all pictures, the last one blank for classes that have none. Where trunks are
    frozen, their features [., f] stand for either.
    """

    tokens: np.ndarray
    images: np.ndarray


def make_tables(catalogue: Catalogue, inputs: EncoderInputs) -> Tables:
    """Tokenise the captions and lay out the pictures of a data set."""
    images = fitted(catalogue.images, inputs)
    blank = np.zeros((1, *images.shape[1:]), np.uint8)
    return Tables(inputs.text(catalogue.texts), np.concatenate([images, blank]))


def to_alignment_batch(raw: dict[str, np.ndarray], tables: Tables) -> AlignmentBatch:
    """Replace row numbers by what the tables hold."""
    arrays: dict[str, Any] = {name: raw[name] for name in HEARD if name in raw}
    arrays["text"] = tables.tokens[raw["text_id"]]
    arrays["image"] = tables.images[raw["image_id"]]  # -1 is the blank
    arrays["has_image"] = (raw["image_id"] >= 0).astype(np.float32)
    # NumPy arrays: the device takes them with the step.
    return AlignmentBatch(label=raw["label"], **arrays)  # type: ignore[arg-type]
