"""Poolings of what is known about a target, with and without all modalities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.config import EncoderConfig
from marssep_jax.fusion import make_fusion, mlbp_fusion, single_fusion

DIM, RANK = 7, 4
POOLINGS = ("mlbp", "mean", "max", "weighted", "text", "audio")
LEARNED_WEIGHTS = np.array([0.5, 0.2, -1.0], np.float32)


def embeddings(*lead, seed=0):
    """Unit vectors of the three modalities, [3, ..., d]."""
    rows = np.random.default_rng(seed).standard_normal((3, *lead, DIM))
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def build(pooling):
    """Return a pooling's jitted apply, and parameters away from their start."""
    fusion = make_fusion(
        EncoderConfig(embed_dim=DIM, pooling=pooling, pooling_rank=RANK)
    )
    params = fusion.init(jax.random.key(0))
    if pooling == "mlbp":
        rng = np.random.default_rng(1)
        params = {
            name: np.asarray(part) + 0.3 * rng.standard_normal(part.shape)
            for name, part in params.items()
        }
        params = jax.tree.map(jnp.float32, params)
    if pooling == "weighted":
        params = {"logits": jnp.asarray(LEARNED_WEIGHTS)}
    return jax.jit(fusion.apply), params


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def mlbp(params, values):
    """z* = normalise(W (prod_m (U_m z_m + b_m) - c)); zeros are left out."""
    product = np.ones(RANK)
    for index, value in enumerate(values):
        if np.any(value):
            project = np.asarray(params["project"][index], np.float64)
            product = product * (value @ project + params["bias"][index])
    return unit((product - params["offset"]) @ params["output"])


def reference(pooling, params, values):
    """Fuse the vectors of one target, [3, d], by the textbook."""
    here = [value for value in values if np.any(value)]
    if pooling == "mlbp":
        return mlbp(params, values)
    if pooling == "mean":
        return unit(np.mean(here, axis=0))
    if pooling == "max":
        return unit(np.max(here, axis=0))
    if pooling == "weighted":
        weight = np.exp(LEARNED_WEIGHTS)
        present = np.any(values, axis=-1)
        return unit(np.average(here, axis=0, weights=weight[present]))
    return unit(values[{"audio": 0, "text": 1}[pooling]])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_anchors_have_length_one_whatever_is_known(pooling):
    apply, params = build(pooling)
    values = embeddings(2, 3)
    for missing in range(3):
        if pooling in ("text", "audio") and missing < 2:
            continue  # the one that counts is always known
        some = values.copy()
        some[missing, 0] = 0.0
        anchor = apply(params, *some)
        assert anchor.shape == (2, 3, DIM)
        np.testing.assert_allclose(np.linalg.norm(anchor, axis=-1), 1.0, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_missing_modality_drops_out(pooling):
    apply, params = build(pooling)
    values = embeddings(8)
    # One row for each set of known modalities but the empty one.
    known = np.array(list(itertools.product([1, 0], repeat=3)), np.float32)
    values = values * known.T[:, :, None]
    anchor = np.asarray(apply(params, *values))
    for row in range(7):
        needed = {"audio": 0, "text": 1}.get(pooling)
        if needed is None or known[row, needed]:
            expected = reference(pooling, params, values[:, row])
            # Products of three sums of float32 numbers near one.
            np.testing.assert_allclose(anchor[row], expected, atol=1e-5)
        else:
            np.testing.assert_array_equal(anchor[row], np.zeros(DIM))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_nothing_known_is_finite_and_so_is_its_gradient(pooling):
    apply, params = build(pooling)
    nothing = jnp.zeros((3, 2, DIM))
    assert np.isfinite(apply(params, *nothing)).all()

    def loss(params, values):
        return jnp.sum(apply(params, *values))

    grads = jax.grad(loss, argnums=(0, 1))(params, nothing)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_mlbp_by_hand():
    # Rank 1: (2 + 1)(1 + 1)(0.5 + 1) - 1 = 8, along (3, 4) / 5.
    fusion = mlbp_fusion(2, 1)
    params = {
        "project": jnp.ones((3, 2, 1)),
        "bias": jnp.ones((3, 1)),
        "output": jnp.array([[3.0, 4.0]]),
        "offset": jnp.ones((1,)),
    }
    audio, text, image = jnp.array([[2.0, 0.0], [0.0, 1.0], [0.25, 0.25]])
    np.testing.assert_allclose(
        fusion.apply(params, audio, text, image), [0.6, 0.8], atol=1e-6
    )
    # With factors 1, then -2: (-2 + 1)(1)(1) - 1 = -2 points the other way.
    none = jnp.zeros(2)
    np.testing.assert_allclose(
        fusion.apply(params, -audio, none, none), [-0.6, -0.8], atol=1e-6
    )


def test_untrained_mlbp_of_high_rank_is_close_to_the_mean():
    fusion = mlbp_fusion(32, 256)
    params = fusion.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    # Three views of each of ten things.
    shared = unit(rng.standard_normal((10, 32)))
    values = unit(shared + 0.1 * rng.standard_normal((3, 10, 32)))
    anchor = fusion.apply(params, *jnp.asarray(values, jnp.float32))
    cosine = np.sum(anchor * unit(values.mean(axis=0)), axis=-1)
    # 0.92 to 0.97 in practice: a random basis of rank 256 nearly keeps the angles
    # of 32 dimensions, but the product of factors bends the sum.
    assert cosine.min() > 0.85
    assert (np.argmax(anchor @ shared.T, axis=1) == np.arange(10)).all()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_single_ones_pick_theirs(index):
    fusion = single_fusion(index)
    values = embeddings(5)
    anchor = fusion.apply({}, *jnp.asarray(values))
    np.testing.assert_allclose(anchor, values[index], atol=1e-6)


def test_learned_weights_start_equal():
    values = jnp.asarray(embeddings(4))
    weighted, mean = (
        make_fusion(EncoderConfig(embed_dim=DIM, pooling=name))
        for name in ("weighted", "mean")
    )
    params = weighted.init(jax.random.key(0))
    np.testing.assert_allclose(
        weighted.apply(params, *values), mean.apply({}, *values), atol=1e-6
    )


@pytest.mark.parametrize("pooling", ["mean", "max", "text", "audio"])
def test_fixed_poolings_have_nothing_to_learn(pooling):
    fusion = make_fusion(EncoderConfig(embed_dim=DIM, pooling=pooling))
    assert fusion.init(jax.random.key(0)) == {}


def test_unknown_pooling_is_named():
    with pytest.raises(ValueError, match="pooling is 'sum', expected 'mlbp', 'mean'"):
        EncoderConfig(pooling="sum")
