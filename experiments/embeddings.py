"""Embed a data set once, and attach the embeddings to batches and mixtures."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from data_pipelines.catalogue import Catalogue
from data_pipelines.manifest import fingerprint as audio_fingerprint
from data_pipelines.manifest import render
from experiments.batching import BATCH, in_batches
from marssep_jax.encoders import Encoder
from marssep_jax.encoders.inputs import EncoderInputs
from marssep_jax.evaluation import NEGATIVE_KIND, EvaluationMixture
from marssep_jax.queries import NEGATIVE_AMOUNT
from marssep_jax.types import MixtureBatch, Params

UNASKED: dict[str, Any] = {"text_id": None, "audio_rows": (), "image_ids": ()}
"""Stands for a query that a manifest leaves out."""

INT16_SCALE = np.float32(1 / 32_768)
AUDIO = "audio_"
"""Before the name of a split: the table of its clips."""


class EmbeddingBank(NamedTuple):
    """Unit embeddings of captions, of the clips of each split and of pictures.

    ``text`` [M, D], ``audio[split]`` [C, D], ``image`` [I, D].
    """

    text: np.ndarray
    audio: dict[str, np.ndarray]
    image: np.ndarray


class CatalogueEmbedder:
    """Embeds captions, clips and pictures; it compiles once per modality."""

    def __init__(self, encoder: Encoder, inputs: EncoderInputs) -> None:
        """Take an encoder, and what it is shown of captions and pictures."""

        def audio(params: Params, clips: jax.Array) -> jax.Array:
            return encoder.audio(params, clips * INT16_SCALE)

        self._inputs = inputs
        self._audio = jax.jit(audio)
        self._text, self._image = jax.jit(encoder.text), jax.jit(encoder.image)

    def __call__(
        self, params: Params, catalogue: Catalogue, splits: Sequence[str] | None = None
    ) -> EmbeddingBank:
        """Embed captions, pictures, and the clips of the splits; None takes all."""
        params = jax.device_put(params)  # once, not with every batch

        def whole(table: str, count: int) -> np.ndarray:
            return self.rows(params, catalogue, table, slice(0, count))

        names = list(catalogue.clips) if splits is None else splits
        return EmbeddingBank(
            whole("text", len(catalogue.texts)),
            {k: whole(AUDIO + k, len(catalogue.clips[k])) for k in names},
            whole("image", len(catalogue.images)),
        )

    def rows(
        self,
        params: Params,
        catalogue: Catalogue,
        table: str,
        rows: slice,
        on_batch: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Embed rows of a table: ``text``, ``image`` or ``audio_`` and a split.

        Args:
          params: the encoder's.
          catalogue: the data set.
          table: which of its tables.
          rows: which rows.
          on_batch: hears how many rows each batch had.
        """
        run: Callable[..., Any] = self._audio
        dtype: Any = np.float32
        if table == "text":
            run, dtype = self._text, np.int32
            values = self._inputs.text(catalogue.texts[rows])
        elif table == "image":
            run, dtype = self._image, np.uint8
            values = fitted(catalogue.images[rows], self._inputs)
        else:
            values = catalogue.clips[table.removeprefix(AUDIO)][rows]
        return in_batches(partial(run, params), values, dtype, BATCH, on_batch=on_batch)


def fitted(images: np.ndarray, inputs: EncoderInputs) -> np.ndarray:
    """Bring the pictures of a data set to the size that an encoder sees."""
    first = inputs.image(np.zeros((8, 8, 3), np.uint8))
    if images.shape[1:] == first.shape:
        return images
    rows = [inputs.image(picture) for picture in images]
    return np.stack(rows) if rows else np.zeros((0, *first.shape), np.uint8)


def normalised(values: np.ndarray) -> np.ndarray:
    """Scale vectors to unit length; zeros stay zeros."""
    norm = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(norm > 0, norm, 1.0)


def _rows(bank: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Look rows up; -1 gives zeros."""
    found = np.zeros((*index.shape, bank.shape[-1]), np.float32)
    present = index >= 0
    found[present] = bank[index[present]]
    return found


class Banks(NamedTuple):
    """Embeddings by the encoder of the queries, and by the reward's."""

    query: EmbeddingBank
    anchor: EmbeddingBank


def attach(raw: dict[str, np.ndarray], banks: Banks, split: str) -> MixtureBatch:
    """Replace row numbers by embeddings and compose the queries.

    Args:
      raw: a batch of ``mixture_batches``.
      banks: embeddings of its data set.
      split: the split it was drawn from.
    """
    asked, anchor = banks
    parts = (
        _rows(asked.text, raw["text_id"]),
        _rows(asked.audio[split], raw["audio_id"]),
        _rows(asked.image, raw["image_id"]),
    )
    weight = raw["query_weight"][..., None]
    query = sum(weight[:, :, number] * part for number, part in enumerate(parts))
    text = _rows(anchor.text, raw["text_id"])
    image = _rows(anchor.image, raw["image_id"])
    arrays: Any = (raw["target"], normalised(query), text, image, raw["label"])
    return MixtureBatch(*arrays)  # NumPy: the device takes it with the step


def evaluation_mixtures(
    manifest: dict[str, Any], catalogue: Catalogue, bank: EmbeddingBank
) -> Iterator[EvaluationMixture]:
    """Render a manifest's mixtures and embed their queries, one at a time.

    Raises:
      ValueError: audio that is not what the manifest says.
    """
    for entry in manifest["mixtures"]:
        queries, absent = queries_of(entry, bank, manifest["split"])
        yield EvaluationMixture(
            name=entry["id"],
            target=checked_sources(entry, catalogue),
            label=np.asarray([source["label"] for source in entry["sources"]]),
            queries=queries,
            absent=absent,
            scored_samples=manifest.get("scored_samples"),
        )


def checked_sources(entry: dict[str, Any], catalogue: Catalogue) -> np.ndarray:
    """Render one mixture's sources, float32 [k, t].

    Raises:
      ValueError: audio that is not what the manifest says.
    """
    target = render(entry, catalogue)
    found = audio_fingerprint(target)
    if found != entry["sha256"]:
        raise ValueError(
            f"mixture {entry['id']} has SHA-256 {found}, expected "
            f"{entry['sha256']}: prepare the data set again"
        )
    return target


def queries_of(
    entry: dict[str, Any], bank: EmbeddingBank, split: str
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Embed one mixture's queries.

    Clips and pictures of one query are averaged. The composed query is the plain
    mean of what there is. The negative one, q' = normalise((1 + a) q - a n), has the
    words for the target as q and the mean of the other sources' words as n, with the
    a of `marssep_jax.queries`; a mixture whose other sources have no words has none.
    A source without a query gets zeros: nothing asks for it.

    Returns:
      Embeddings [k, d] by kind, zeros where there is nothing to ask with, and the
      words for a class that is not in the mixture, if the manifest has one.
    """
    asked, clips = [query or UNASKED for query in entry["queries"]], bank.audio[split]
    queries = {
        "text": np.stack([_words(bank.text, q["text_id"]) for q in asked]),
        "audio": np.stack([_mean(clips, q["audio_rows"]) for q in asked]),
        "image": np.stack([_mean(bank.image, q["image_ids"]) for q in asked]),
    }
    queries["composed"] = normalised(np.sum(list(queries.values()), axis=0))
    queries[NEGATIVE_KIND] = _less_the_others(queries["text"])
    absent = entry.get("absent")
    return queries, None if absent is None else bank.text[absent["text_id"]]


def _less_the_others(words: np.ndarray) -> np.ndarray:
    others = normalised(words.sum(axis=0) - words)
    usable = np.any(words, axis=-1) & np.any(others, axis=-1)
    moved = (1 + NEGATIVE_AMOUNT) * words - NEGATIVE_AMOUNT * others
    return np.where(usable[:, None], normalised(moved), 0).astype(np.float32)


def _words(bank: np.ndarray, text_id: int | None) -> np.ndarray:
    return np.zeros_like(bank[0]) if text_id is None else bank[text_id]


def _mean(bank: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    if not len(rows):
        return np.zeros(bank.shape[-1], np.float32)
    return normalised(bank[np.asarray(rows)].mean(axis=0))
