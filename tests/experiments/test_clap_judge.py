"""CLAP as judge: a tiny random one, converted from the published keys."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import clap_judge
from marssep_jax.conversion.clap import HUGGING_FACE
from marssep_jax.encoders.clap import make_clap
from marssep_jax.evaluation import Batch
from marssep_jax.preprocessing.clap_mel import clap_log_mel_host
from marssep_jax.preprocessing.clip_tokens import byte_letters
from marssep_jax.preprocessing.resampling import resample_sinc_host
from marssep_jax.weights.store import save_encoder
from tests.support.clap_keys import hugging_face_shapes
from tests.support.clap_sizes import golden
from tests.support.published import convert, rule_state

RATE_HZ, NUM_SAMPLES = 12_000, 6_000
CAPTIONS = [["a violin", "a flute"], ["the sound of rain", "a violin"]]


def tiny(fused=False):
    config = golden(fused)
    text = dataclasses.replace(config.text, vocab_size=300)
    return dataclasses.replace(config, text=text)


def save_clap(folder, fused=False, tokenizer=True):
    config = tiny(fused)
    params = convert(HUGGING_FACE, rule_state(hugging_face_shapes(config)))
    save_encoder(folder, "clap", config, params, "CC0-1.0", {"sha256": {"a": "0"}})
    if tokenizer:
        pieces = ["<s>", "<pad>", "</s>", "<unk>", *byte_letters()]
        vocab = {piece: number for number, piece in enumerate(pieces)}
        (folder / "vocab.json").write_text(json.dumps(vocab))
        (folder / "merges.txt").write_text("#version: 0.2\n")
    return config, params


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clap") / "tiny"
    save_clap(folder)
    return folder


@pytest.fixture(scope="module")
def judge(folder):
    return clap_judge.open_clap(str(folder), RATE_HZ)


def make_batch():
    target = np.random.default_rng(0).normal(0, 0.1, (2, 2, NUM_SAMPLES))
    target = jnp.asarray(target, jnp.float32)
    return Batch(target, np.zeros((2, 2), int), CAPTIONS)


@pytest.mark.slow
def test_scores_are_cosines_in_percent(judge, folder):
    batch = make_batch()
    noise = np.random.default_rng(1).normal(0, 0.1, (2, 3, 2, NUM_SAMPLES))
    estimate = jnp.asarray(noise, jnp.float32).at[:, 1].set(batch.target)
    found = {name: np.asarray(v) for name, v in judge.score(estimate, batch).items()}
    assert {name: value.shape for name, value in found.items()} == {
        "clap_text": (2, 3, 2),
        "clap_audio": (2, 3, 2),
    }
    # What is the target has all of its sound.
    np.testing.assert_allclose(found["clap_audio"][:, 1], 100, atol=1e-3)
    assert (np.abs(found["clap_audio"]) <= 100.001).all()
    # One estimate by hand: float64 features of the repeated clip, plain towers.
    config = tiny()
    params = convert(HUGGING_FACE, rule_state(hugging_face_shapes(config)))
    clap = make_clap(config)
    heard = resample_sinc_host(np.asarray(estimate[1, 2, 0]), RATE_HZ, 48_000)
    heard = np.trunc(np.clip(heard, -1, 1).astype(np.float32) * 32_767) / 32_767
    window = np.tile(heard, 480_000 // heard.size)
    audio = np.asarray(clap.audio(params, jnp.asarray(clap_log_mel_host(window))))
    ids = [0, *(4 + byte_letters().index(c) for c in "theĠsoundĠofĠrain"), 2]
    text = np.asarray(clap.text(params, jnp.asarray([ids + [1] * (77 - len(ids))])))
    assert found["clap_text"][1, 2, 0] == pytest.approx(100 * audio @ text[0], abs=0.05)


@pytest.mark.slow
def test_the_same_on_every_call_and_device(judge, folder):
    """Nothing is drawn by chance, whatever was scored before and wherever."""
    batch = make_batch()
    estimate = batch.target[:, None] * 0.5
    first = judge.score(estimate, batch)
    again = clap_judge.open_clap(str(folder), RATE_HZ)
    device = jax.devices()[1]
    moved = batch._replace(target=jax.device_put(batch.target, device))
    other = again.score(jax.device_put(estimate, device), moved)
    for name, values in first.items():
        np.testing.assert_array_equal(other[name], values)


def test_whose_weights_they_are(judge):
    assert judge.credit["name"] == "tiny"
    assert judge.credit["licence"] == "CC0-1.0"
    assert judge.credit["sha256"] == {"a": "0"}


def test_names():
    assert clap_judge.split_names(["own", "clap:a/b"]) == (["own"], "a/b")
    assert clap_judge.split_names(["own"]) == (["own"], None)
    for names in (["clap:"], ["clap:a", "clap:b"]):
        with pytest.raises(ValueError, match="expected one clap:FOLDER at most"):
            clap_judge.split_names(names)


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match=r"encoder is .*none'.*No such file"):
        clap_judge.open_clap(str(tmp_path / "none"), RATE_HZ)
    save_clap(tmp_path / "fused", fused=True)
    with pytest.raises(ValueError, match="expected an unfused CLAP"):
        clap_judge.open_clap(str(tmp_path / "fused"), RATE_HZ)
    save_encoder(tmp_path / "toy", "toy", {"d": 1}, {"a": np.ones(2)}, "CC0-1.0", {})
    with pytest.raises(ValueError, match="expected a CLAP, not toy"):
        clap_judge.open_clap(str(tmp_path / "toy"), RATE_HZ)
    save_clap(tmp_path / "mute", tokenizer=False)
    with pytest.raises(FileNotFoundError, match=r"with tokenizer\.json"):
        clap_judge.open_clap(str(tmp_path / "mute"), RATE_HZ)
