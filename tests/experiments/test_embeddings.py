"""Embeddings of a data set: computed and attached to batches."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.manifest import build_manifest
from experiments import embeddings
from experiments.embeddings import (
    Banks,
    CatalogueEmbedder,
    EmbeddingBank,
    attach,
    evaluation_mixtures,
    normalised,
    queries_of,
)
from experiments.scoring import captions_of
from marssep_jax.config import EncoderConfig
from marssep_jax.encoders.inputs import make_inputs
from marssep_jax.encoders.text import tokenise
from marssep_jax.queries import subtract

TEXT_LENGTH = 24
PARAMS = {"scale": np.float32(0.37)}
CONFIG = EncoderConfig(embed_dim=4, text_length=TEXT_LENGTH, image_size=8)
INPUTS = make_inputs(CONFIG)


def test_normalised():
    found = normalised(np.asarray([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, 0.0]])


def test_every_row_is_embedded_at_its_place(catalogue, encoder, monkeypatch):
    """Rows come in batches, the last of them filled up: that must not show."""
    monkeypatch.setattr(embeddings, "BATCH", 7)
    embed = CatalogueEmbedder(encoder, INPUTS)
    found = embed(PARAMS, catalogue)
    ids = tokenise(catalogue.texts, TEXT_LENGTH)
    expected = encoder.text(PARAMS, jnp.asarray(ids))
    # float32 sums of 2048 terms in two compilations.
    np.testing.assert_allclose(found.text, expected, atol=1e-4)
    expected = encoder.image(PARAMS, jnp.asarray(catalogue.images))
    np.testing.assert_allclose(found.image, expected, atol=1e-4)
    assert list(found.audio) == list(catalogue.clips)
    for split, clips in catalogue.clips.items():
        waves = jnp.asarray(clips.astype(np.float32) / 32_768)
        expected = encoder.audio(PARAMS, waves)
        np.testing.assert_allclose(found.audio[split], expected, atol=1e-4)


def test_only_the_splits_that_are_asked_for(catalogue, encoder):
    embed = CatalogueEmbedder(encoder, INPUTS)
    found = embed(PARAMS, catalogue, ("seen",))
    assert list(found.audio) == ["seen"]
    assert found.audio["seen"].shape == (12, 4)


def test_rows_of_a_table(catalogue, encoder, monkeypatch):
    monkeypatch.setattr(embeddings, "BATCH", 3)
    embed = CatalogueEmbedder(encoder, INPUTS)
    whole, heard = embed(PARAMS, catalogue), []
    tables = {"text": whole.text, "audio_seen": whole.audio["seen"]}
    tables |= {"image": whole.image}
    for name, expected in tables.items():
        found = embed.rows(PARAMS, catalogue, name, slice(4, 11), heard.append)
        # float32 sums of 2048 terms, in batches that were cut elsewhere.
        np.testing.assert_allclose(found, expected[4:11], atol=1e-4)
    assert heard == [3, 3, 1] * 3


def test_clips_are_never_in_memory_together(catalogue, encoder, tmp_path):
    np.save(tmp_path / "clips.npy", np.tile(catalogue.clips["seen"], (800, 1)))
    clips = np.load(tmp_path / "clips.npy", mmap_mode="r")
    large = catalogue._replace(clips={"seen": clips})
    embed = CatalogueEmbedder(encoder, INPUTS)
    embed.rows(PARAMS, large, "audio_seen", slice(0, 1))  # compiled
    tracemalloc.start()
    try:
        found = embed.rows(PARAMS, large, "audio_seen", slice(0, len(clips)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.shape == (9_600, 4)
    np.testing.assert_array_equal(found[:64], found[12 * 64 : 13 * 64])
    # A batch is 0.4 MB as stored; what else the process allocates is counted with it.
    assert peak < clips.nbytes / 4


def test_nothing_to_embed(catalogue, encoder):
    empty = catalogue._replace(images=catalogue.images[:0])
    embed = CatalogueEmbedder(encoder, INPUTS)
    assert embed(PARAMS, empty, ()).image.shape == (0, 4)
    assert embed(PARAMS, empty, ()).audio == {}


def batch(text_id, audio_id, image_id, weight):
    """Return a batch of one mixture and one target."""
    ids = {"text_id": text_id, "audio_id": audio_id, "image_id": image_id}
    raw = {name: np.asarray([[value]], np.int32) for name, value in ids.items()}
    raw["query_weight"] = np.asarray([[weight]], np.float32)
    raw["target"] = np.ones((1, 1, 9), np.float32)
    raw["label"] = np.zeros((1, 1), np.int32)
    return raw


def test_weights_compose_the_query(bank):
    made = attach(batch(3, 5, 2, [0.5, 0.3, 0.2]), Banks(bank, bank), "train")
    parts = bank.text[3], bank.audio["train"][5], bank.image[2]
    expected = normalised(0.5 * parts[0] + 0.3 * parts[1] + 0.2 * parts[2])
    np.testing.assert_allclose(made.query[0, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(made.text[0, 0], bank.text[3])
    np.testing.assert_array_equal(made.image[0, 0], bank.image[2])
    np.testing.assert_allclose(np.linalg.norm(made.query), 1.0, rtol=1e-6)


@pytest.mark.parametrize("number", range(3))
def test_one_modality_alone(bank, number):
    made = attach(batch(3, 5, 2, np.eye(3)[number]), Banks(bank, bank), "train")
    parts = bank.text[3], bank.audio["train"][5], bank.image[2]
    np.testing.assert_allclose(made.query[0, 0], parts[number], atol=1e-6)


def test_clips_are_those_of_the_split(bank):
    made = attach(batch(0, 1, 0, [0, 1, 0]), Banks(bank, bank), "seen")
    np.testing.assert_allclose(made.query[0, 0], bank.audio["seen"][1], atol=1e-6)


def test_a_missing_picture_drops_out(bank):
    made = attach(batch(3, 5, -1, [0.5, 0.3, 0.2]), Banks(bank, bank), "train")
    np.testing.assert_array_equal(made.image[0, 0], np.zeros(4))
    expected = normalised(0.5 * bank.text[3] + 0.3 * bank.audio["train"][5])
    np.testing.assert_allclose(made.query[0, 0], expected, atol=1e-6)


def test_nothing_known_is_no_query(bank):
    made = attach(batch(-1, -1, -1, [0.5, 0.3, 0.2]), Banks(bank, bank), "train")
    np.testing.assert_array_equal(made.query[0, 0], np.zeros(4))
    assert made.query.dtype == np.float32


def test_queries_and_anchors_may_be_of_different_encoders(bank):
    other = EmbeddingBank(bank.text[:, ::-1], {}, -bank.image)
    made = attach(batch(3, 5, 2, [0.5, 0.3, 0.2]), Banks(bank, other), "train")
    same = attach(batch(3, 5, 2, [0.5, 0.3, 0.2]), Banks(bank, bank), "train")
    np.testing.assert_array_equal(made.query, same.query)
    np.testing.assert_array_equal(made.text[0, 0], bank.text[3, ::-1])
    np.testing.assert_array_equal(made.image[0, 0], -bank.image[2])


def test_negative_queries_are_words_less_the_other_sources(catalogue, bank):
    entry = build_manifest(catalogue, "seen", 1, seed=3)["mixtures"][0]
    queries, _ = queries_of(entry, bank, "seen")
    words = queries["text"]
    expected = subtract(jnp.asarray(words), jnp.asarray(words[::-1]))
    np.testing.assert_allclose(queries["negative"], expected, atol=1e-6)
    # Without words for the others there is nothing to take away.
    mute = bank._replace(text=bank.text.copy())
    mute.text[entry["queries"][1]["text_id"]] = 0
    assert not np.any(queries_of(entry, mute, "seen")[0]["negative"])


@pytest.fixture
def manifest(catalogue):
    return build_manifest(catalogue, "seen", 12, seed=3)


def test_evaluation_mixtures(manifest, catalogue, bank):
    mixtures = list(evaluation_mixtures(manifest, catalogue, bank))
    assert [m.name for m in mixtures] == [e["id"] for e in manifest["mixtures"]]
    pictured = set()
    for mixture, entry in zip(mixtures, manifest["mixtures"], strict=True):
        assert mixture.target.shape == (2, 1_024)
        labels = [source["label"] for source in entry["sources"]]
        assert mixture.label.tolist() == labels
        np.testing.assert_array_equal(
            mixture.absent, bank.text[entry["absent"]["text_id"]]
        )
        for row, (asked, label) in enumerate(
            zip(entry["queries"], labels, strict=True)
        ):
            text, audio, image, composed = (
                mixture.queries[kind][row]
                for kind in ("text", "audio", "image", "composed")
            )
            np.testing.assert_array_equal(text, bank.text[asked["text_id"]])
            clips = bank.audio["seen"][asked["audio_rows"]]
            np.testing.assert_allclose(audio, normalised(clips.mean(0)), atol=1e-6)
            # The last class has no picture: nothing is to be asked by.
            assert np.any(image) == (label != 5)
            pictured.add(bool(np.any(image)))
            there = [text, audio, image] if np.any(image) else [text, audio]
            expected = normalised(np.mean(there, axis=0))
            np.testing.assert_allclose(composed, expected, atol=1e-6)
    assert pictured == {True, False}


def test_a_mixture_without_an_absent_class(manifest, catalogue, bank):
    manifest["mixtures"][0]["absent"] = None
    assert next(evaluation_mixtures(manifest, catalogue, bank)).absent is None


def test_a_source_that_nothing_asks_for(manifest, catalogue, bank):
    whole = next(evaluation_mixtures(manifest, catalogue, bank))
    manifest["mixtures"][0]["queries"][1] = None
    manifest["scored_samples"] = 1_000
    mixture = next(evaluation_mixtures(manifest, catalogue, bank))
    assert not np.any(mixture.queries.pop("negative"))  # no words to take away
    for kind, queries in mixture.queries.items():
        np.testing.assert_array_equal(queries[0], whole.queries[kind][0])
        np.testing.assert_array_equal(queries[1], np.zeros(4))
    assert (whole.scored_samples, mixture.scored_samples) == (None, 1_000)
    first, second = captions_of(manifest, catalogue)[mixture.name]
    text_id = manifest["mixtures"][0]["queries"][0]["text_id"]
    assert (first, second) == (catalogue.texts[text_id], "")


def test_other_audio_than_the_manifest_says(manifest, catalogue, bank):
    manifest["mixtures"][1]["sha256"] = "0" * 64
    stream = evaluation_mixtures(manifest, catalogue, bank)
    next(stream)
    with pytest.raises(ValueError, match="mixture seen-0001 has SHA-256") as caught:
        next(stream)
    assert "expected 0000" in str(caught.value)
    assert str(caught.value).endswith("prepare the data set again")
