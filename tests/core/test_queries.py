"""Query arithmetic and the embedding of words, clips and pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.audio import write_audio
from marssep_jax.config import EncoderConfig, FrontendConfig
from marssep_jax.queries import (
    Query,
    QueryItem,
    as_items,
    compose,
    embed_item,
    embed_query,
    make_embedder,
    removal_items,
    subtract,
)

FRONTEND = FrontendConfig(num_samples=4_096, num_rows=32)
ENCODER = EncoderConfig(embed_dim=12, audio_widths=(8,), image_widths=(8,))


@pytest.fixture(scope="module")
def embedder():
    return make_embedder(ENCODER, FRONTEND)


@pytest.fixture(scope="module")
def params(embedder):
    return embedder.encoder.init(jax.random.key(0))


def clip(num_samples=4_096, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, num_samples).astype(np.float32)


def unit(*values):
    return jnp.asarray(values) / jnp.linalg.norm(jnp.asarray(values))


def test_compose_by_hand():
    rows = jnp.array([[1.0, 0.0], [0.0, 2.0]])
    # The second is normalised to (0, 1) first: (3, 4) / 5.
    both = compose(rows, jnp.array([3.0, 4.0]))
    np.testing.assert_allclose(both, [0.6, 0.8], atol=1e-6)


def test_compose_leaves_out_what_is_missing_and_ignores_scale():
    rows = jnp.stack([unit(1.0, 2.0, 2.0), jnp.zeros(3)])
    alone = compose(rows, jnp.array([0.5, 9.0]))
    np.testing.assert_allclose(alone, rows[0], atol=1e-6)


def test_compose_keeps_further_axes():
    rows = jax.random.normal(jax.random.key(0), (3, 4, 5, 8))
    weights = jnp.array([1.0, 2.0, 3.0])
    whole = compose(rows, weights)
    assert whole.shape == (4, 5, 8)
    np.testing.assert_allclose(whole[1, 2], compose(rows[:, 1, 2], weights), atol=1e-6)


def test_compose_wants_a_weight_each():
    with pytest.raises(ValueError, match=r"weights has shape \(3,\), expected one"):
        compose(jnp.ones((2, 4)), jnp.ones(3))


def test_subtract_by_hand():
    query, negative = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    # (1.5, -0.5) / sqrt(2.5)
    np.testing.assert_allclose(
        subtract(query, negative), np.array([1.5, -0.5]) / np.sqrt(2.5), atol=1e-6
    )
    np.testing.assert_allclose(subtract(query, negative, 0.0), query, atol=1e-6)


def test_subtracting_the_query_from_itself_changes_nothing():
    query = unit(1.0, -2.0, 3.0)
    np.testing.assert_allclose(subtract(query, query, 0.7), query, atol=1e-6)


def test_items_take_one_or_many():
    assert as_items(None, "text") == []
    assert [i.value for i in as_items("violin", "text")] == ["violin"]
    assert [i.value for i in as_items(["a", "b"], "text")] == ["a", "b"]
    assert len(as_items((clip(), 16_000), "audio")) == 1
    assert len(as_items([(clip(), 16_000), "b.wav"], "audio")) == 2
    assert len(as_items(np.zeros((4, 4, 3), np.uint8), "image")) == 1


def test_removals_are_words_or_a_mapping():
    assert removal_items("dog") == [QueryItem("text", "dog", 1.0, "remove")]
    mixed = removal_items({"text": ["a", "b"], "audio": "c.wav"})
    assert [i.modality for i in mixed] == ["text", "text", "audio"]
    with pytest.raises(ValueError, match="modality is 'video', expected one of text"):
        removal_items({"video": "x"})


def test_every_modality_gives_a_unit_vector(embedder, params, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "a.png")
    write_audio(tmp_path / "a.wav", clip()[None], 16_000)
    items = [
        QueryItem("text", "a violin"),
        QueryItem("audio", (clip(), 16_000)),
        QueryItem("audio", tmp_path / "a.wav"),
        QueryItem("image", image),
        QueryItem("image", str(tmp_path / "a.png")),
    ]
    rows = jnp.stack([embed_item(embedder, params, item) for item in items])
    np.testing.assert_allclose(jnp.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    # A file and the array it holds are the same query.
    np.testing.assert_allclose(rows[1], rows[2], atol=1e-5)
    np.testing.assert_allclose(rows[3], rows[4], atol=1e-5)
    assert jnp.abs(rows[0] - rows[1]).max() > 0.01


def test_audio_query_of_any_length_compiles_once(params):
    # A front end of its own, so that other tests' compilations do not count.
    embedder = make_embedder(ENCODER, FrontendConfig(num_samples=4_098, num_rows=32))
    lengths = [1, 500, 4_096, 4_097, 20_000]
    for length in lengths:
        embed_item(embedder, params, QueryItem("audio", (clip(length) + 1, 16_000)))
    assert embedder.encoder.audio._cache_size() == 1


def test_pauses_in_an_audio_query_do_not_count(embedder, params):
    sounding = clip()
    paused = np.concatenate([sounding, np.zeros(2 * 4_096, np.float32)])
    one, other = (
        embed_item(embedder, params, QueryItem("audio", (wave, 16_000)))
        for wave in (sounding, paused)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_embed_query_composes_subtracts_and_inverts(embedder, params):
    violin, flute = QueryItem("text", "violin"), QueryItem("text", "flute", 2.0)
    rows = jnp.stack([embed_item(embedder, params, i) for i in (violin, flute)])
    both = embed_query(embedder, params, [violin, flute])
    np.testing.assert_allclose(
        both.embedding, compose(rows, jnp.array([1.0, 2.0])), atol=1e-6
    )
    less = embed_query(embedder, params, [violin], [flute])
    np.testing.assert_allclose(less.embedding, subtract(rows[0], rows[1]), atol=1e-6)
    rest = embed_query(embedder, params, [], [flute])
    assert isinstance(rest, Query)
    assert (both.complement, less.complement, rest.complement) == (False, False, True)
    np.testing.assert_allclose(rest.embedding, rows[1], atol=1e-6)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            QueryItem("text", "  ", label="--text"),
            "--text is '  ', expected some words",
        ),
        (QueryItem("text", "a"), "text is 'a', expected a longer word"),
        (QueryItem("smell", "rose"), "modality is 'smell', expected one of"),
        (QueryItem("text", "violin", 0.0), "weight is 0.0, expected a number above 0"),
        (QueryItem("audio", (np.zeros(9), 16_000)), "audio is silent"),
        (QueryItem("audio", (np.ones(9) * np.nan, 16_000)), "expected finite samples"),
        (QueryItem("audio", (np.ones(9), 1)), "rate 1, expected 1000 to 768000 Hz"),
        (QueryItem("image", np.zeros((4, 4))), r"float64 \(4, 4\), expected uint8"),
    ],
)
def test_bad_items_are_named(embedder, params, item, message):
    with pytest.raises(ValueError, match=message):
        embed_query(embedder, params, [item])


def test_no_query_is_an_error(embedder, params):
    with pytest.raises(ValueError, match="query is empty"):
        embed_query(embedder, params, [])


def test_text_renamed_png_is_no_picture(embedder, params, tmp_path):
    (tmp_path / "a.png").write_text("hello")
    item = QueryItem("image", tmp_path / "a.png", label="--image")
    with pytest.raises(ValueError, match=r"--image is '.*a\.png', expected a readable"):
        embed_item(embedder, params, item)
