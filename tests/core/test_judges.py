"""Published networks as judges, and the probes that tie them to classes.

The networks' own numbers are those of their files: the last tests run where the
packages are installed (``pip install --no-deps aisfx==0.1.2 musicnn==0.1.0``).
"""

import importlib.util

import jax
import numpy as np
import pytest

from marssep_jax.conversion.tensor_bundle import open_bundle
from marssep_jax.judges import aisfx, musicnn, probes
from marssep_jax.weights.packages import PackagedWeights

NETWORKS = {"aisfx": (aisfx, 512), "musicnn": (musicnn, 200)}


def clouds(per_class=40, num_classes=4, dim=6, spread=0.3):
    """Return embeddings around class means far from the origin, and their labels."""
    draw = np.random.default_rng(0)
    means = draw.standard_normal((num_classes, dim)) + 10.0
    label = np.repeat(np.arange(num_classes), per_class)
    noise = spread * draw.standard_normal((len(label), dim))
    return (means[label] + noise).astype(np.float32), label


def accuracy(probe, embedding, label):
    found = np.asarray(probes.class_log_prob(probe, embedding))
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1.0, rtol=1e-4)
    return float((found.argmax(axis=-1) == label).mean())


def test_centroid_is_the_cosine_to_the_mean_of_a_class():
    embedding, label = clouds()
    probe = probes.fit_centroids(embedding.astype(np.float64), label, 4)
    means = np.stack([embedding[label == k].mean(axis=0) for k in range(4)])
    centred = means - means.mean(axis=0)
    value = embedding[7] - means.mean(axis=0)
    cosine = centred @ value / np.linalg.norm(centred, axis=1) / np.linalg.norm(value)
    expected = cosine - np.log(np.exp(cosine).sum())
    found = probes.class_log_prob(probe, embedding[7])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("fit", [probes.fit_centroids, probes.fit_ridge(1e-2)])
def test_probes_tell_clouds_apart_and_know_how_sure_they_are(fit):
    embedding, label = clouds()
    probe, held_out = probes.with_temperature(fit, embedding, label, 4)
    assert accuracy(probe, embedding, label) > 0.97
    blurred, _ = clouds(spread=3.0)
    unsure, worse = probes.with_temperature(fit, blurred, label, 4)
    assert worse < held_out <= 0
    # Guessing is worth ln(1/4); a fitted temperature is never much worse.
    assert worse > np.log(0.25) - 0.05
    assert accuracy(unsure, blurred, label) < 0.9


def test_best_ridge_is_the_most_probable_one():
    embedding, label = clouds(spread=1.0)
    _, best = probes.best_ridge(embedding, label, 4)
    for ridge in probes.RIDGES:
        fit = probes.fit_ridge(ridge)
        assert probes.with_temperature(fit, embedding, label, 4)[1] <= best


def test_a_class_that_was_never_shown_is_never_named():
    embedding, label = clouds()
    probe, _ = probes.with_temperature(probes.fit_centroids, embedding, label, 6)
    found = np.asarray(probes.class_log_prob(probe, embedding))
    assert np.isneginf(found[:, 4:]).all()
    assert accuracy(probe, embedding, label) > 0.97


def test_words_are_not_learnt_from_labels():
    """Shuffled labels change nothing; a class without a word is never named."""
    embedding, label = clouds()
    kernel = np.random.default_rng(1).standard_normal((6, 3))
    fit = probes.fit_words(kernel, (2, None, 0, None))
    probe = fit(embedding, label, 4)
    shuffled = fit(embedding, np.roll(label, 7), 4)
    for found, expected in zip(probe, shuffled, strict=True):
        np.testing.assert_array_equal(found, expected)
    logits = (embedding - probe.mean) @ probe.weight + probe.bias
    np.testing.assert_allclose(logits[:, [0, 2]].std(axis=0), 1.0, rtol=1e-5)
    named = np.asarray(probes.class_log_prob(probe, embedding))
    assert np.isneginf(named[:, [1, 3]]).all()
    fitted, _ = probes.with_temperature(fit, embedding, label, 4)
    assert np.isfinite(fitted.weight).all()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("acoustic guitar", "drum kit", "tuba"), ("guitar", "drums", None)),
        (("Male Voice", "harp", "harpsichord"), ("male voice", "harp", "harpsichord")),
        (("bass guitar", "guitar"), (None, None)),  # one word for two
        (("piano and violin",), (None,)),  # two words for one
    ],
)
def test_words_of_classes(names, words):
    found = musicnn.words_of_classes(names)
    shown = tuple(None if tag is None else musicnn.TAGS[tag] for tag in found)
    assert shown == words


def test_missing_package_and_other_contents(tmp_path, monkeypatch):
    weights = PackagedWeights(
        "deaf", "deaf_judge", "deaf==1.0", "MIT", "nobody", {"a.bin": "00"}
    )
    with pytest.raises(ModuleNotFoundError, match=r"--no-deps deaf==1\.0"):
        weights.find()
    package = tmp_path / "deaf_judge"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('it was imported')")
    (package / "a.bin").write_bytes(b"x")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"deaf_judge/a.bin has SHA-256 2d711"):
        weights.find()


@pytest.mark.parametrize("raw", [b"", b"not a table at all" * 9])
def test_a_bundle_that_is_none(tmp_path, raw):
    (tmp_path / "model.index").write_bytes(raw)
    with pytest.raises(ValueError, match=r".+"):
        open_bundle(tmp_path / "model.index")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NETWORKS))
def test_published_weights(name):
    network, size = NETWORKS[name]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    params = network.read_params(network.WEIGHTS.find())
    draw = np.random.default_rng(0)
    waves = draw.standard_normal((2, 32_767)).astype(np.float32)
    waves[1] = np.sin(2 * np.pi * 440 * np.arange(32_767) / 11_025)
    embed = jax.jit(lambda value: network.embed(params, value, 11_025))
    found = np.asarray(embed(waves))
    assert found.shape == (2, size)
    assert np.isfinite(found).all()
    # What a recording's level is does not matter.
    np.testing.assert_allclose(embed(0.1 * waves), found, atol=1e-3 * abs(found).max())
