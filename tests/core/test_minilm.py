"""MiniLM: keys, sizes and what its function promises.

Its numbers are compared with the published code in tests/parity.
"""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.conversion.minilm import MINILM
from marssep_jax.encoders.minilm import MiniLmConfig, make_minilm
from tests.support.bert_keys import bert_keys
from tests.support.published import convert, rule_state, shapes_of

pytestmark = pytest.mark.usefixtures("quick_compile")

SMALL = MiniLmConfig(
    vocab_size=40,
    width=16,
    num_layers=2,
    num_heads=4,
    mlp_width=20,
    num_positions=9,
)


@pytest.fixture(scope="module")
def encoder():
    made = make_minilm(SMALL)
    return made._replace(text=jax.jit(made.text))


@pytest.fixture(scope="module")
def params():
    return convert(MINILM, rule_state(bert_keys(SMALL)))


def test_published_size():
    tree = jax.eval_shape(make_minilm(MiniLmConfig()).init, jax.random.key(0))
    pooling = 384 * 384 + 384
    total = sum(np.prod(shape) for shape in shapes_of(tree).values())
    # 22.7 M with the pooling that is left out.
    assert total + pooling == 22_713_216


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_every_published_key_fills_one_place(encoder, params, prefix):
    state = rule_state(bert_keys(SMALL))
    keys = {f"{prefix}{key}": value for key, value in state.items()}
    keys[f"{prefix}embeddings.position_ids"] = np.arange(9)[None]
    tree = convert(MINILM, keys)
    jax.tree.map(np.testing.assert_array_equal, tree, params)
    expected = jax.eval_shape(encoder.init, jax.random.key(0))
    assert shapes_of(tree) == shapes_of(expected)
    # A rule without a key would be a misspelt one.
    for rule in MINILM:
        assert any(re.fullmatch(rule.pattern, key) for key in keys), rule


def test_leading_axes_are_free_and_vectors_have_length_one(encoder, params):
    ids = np.resize(np.arange(1, 38), (2, 3, 7))
    whole = encoder.text(params, ids)
    assert whole.shape == (2, 3, encoder.embed_dim)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(whole[1, 2], encoder.text(params, ids[1, 2]), atol=1e-6)
    assert np.abs(whole[0, 0] - whole[1, 1]).max() > 1e-3


def test_the_mean_is_over_words_only(encoder, params):
    ids = np.array([[5, 9, 8], [0, 0, 0]])
    padded = np.pad(ids, ((0, 0), (0, 4)))
    text, longer = encoder.text(params, ids), encoder.text(params, padded)
    np.testing.assert_allclose(text[0], longer[0], atol=1e-6)
    # Nothing but padding: no direction.
    np.testing.assert_array_equal(text[1], 0.0)


def test_an_id_that_the_table_does_not_have_is_no_other_word(encoder, params):
    text = encoder.text(params, np.array([[5, 39], [5, 40], [-1, 5]]))
    np.testing.assert_array_equal(np.isnan(text).all(axis=-1), [False, True, True])


@pytest.mark.parametrize("shape", [(), (2, 0), (2, 10)])
def test_bad_ids(encoder, shape):
    with pytest.raises(ValueError, match=r"expected integers .* l in 1..9"):
        encoder.text({}, jnp.ones(shape, int))


def test_published_config():
    file = {
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "hidden_size": 384,
        "intermediate_size": 1536,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "bert",
        "num_attention_heads": 12,
        "num_hidden_layers": 6,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "vocab_size": 30522,
    }
    made = MiniLmConfig.from_published(json.loads(json.dumps(file)))
    assert made == MiniLmConfig() == MiniLmConfig.from_published({})
    assert MiniLmConfig.from_published({**file, "num_hidden_layers": 12}) == (
        dataclasses.replace(made, num_layers=12)
    )
    for key, value in (
        ("model_type", "mpnet"),
        ("hidden_act", "relu"),
        ("position_embedding_type", "relative_key"),
        ("vocab_size", None),
    ):
        with pytest.raises(ValueError, match=f"{key} is {value!r}, expected"):
            MiniLmConfig.from_published({**file, key: value})
