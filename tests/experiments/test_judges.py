"""Judges that others trained, fitted on a data set; here a network of two numbers."""

import importlib.util
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.catalogue import crop_samples, load_catalogue
from experiments import judges
from experiments.datasets import find_directory

LOWEST = {"aisfx": (0.9, 0.5), "musicnn": (0.9, 0.45), "musicnn_tags": (0.6, 0.7)}
"""Shares of right answers on the splits ``seen`` and ``unseen``."""


def test_names():
    assert judges.check_names(["own"]) == ()
    assert judges.check_names(["aisfx", "own", "aisfx"]) == ("aisfx",)
    with pytest.raises(ValueError, match=r"judges is 'own,ear', expected some of own"):
        judges.check_names(["own", "ear"])
    with pytest.raises(ValueError, match="judges is '', expected some of own, aisfx"):
        judges.check_names([])


def test_a_judge_is_fitted_on_training_clips_alone(catalogue, monkeypatch):
    heard = []

    def embed(params, waveform, rate_hz):
        heard.append((waveform.shape, rate_hz))
        spectrum = jnp.abs(jnp.fft.rfft(waveform))
        low = params["gain"] * spectrum[..., :40].sum(-1)
        return jnp.stack([low / spectrum.sum(-1), jnp.ones(low.shape)], axis=-1)

    network = SimpleNamespace(
        embed=embed,
        read_params=lambda paths: {"gain": np.float32(paths == "paths")},
        WEIGHTS=SimpleNamespace(find=lambda: "paths"),
    )
    monkeypatch.setattr(judges, "NETWORKS", {"ear": network})
    only_train = catalogue._replace(clips={"train": catalogue.clips["train"]})
    judge = judges.fit_judges(("ear",), only_train)["ear"]
    clips = catalogue.clips["seen"][:6].reshape(2, 3, -1) * judges.INT16_SCALE
    found = np.asarray(judge(clips))
    assert found.shape == (2, 3, len(catalogue.class_names))
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1.0, rtol=1e-4)
    assert {rate for _, rate in heard} == {catalogue.sample_rate_hz}
    # Fitted on crops as long as those that mixtures are made of.
    assert heard[0][0] == (judges.BATCH, catalogue.description["crop_samples"])


def test_a_missing_package_says_how_to_install_it(catalogue, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"--no-deps aisfx==0\.1\.2"):
        judges.fit_judges(("aisfx",), catalogue)
    with pytest.raises(ModuleNotFoundError, match=r"--no-deps musicnn==0\.1\.0"):
        judges.require_weights(("own", "musicnn_tags"))
    judges.require_weights(("own",))


def tagged(catalogue):
    """Give two classes names that musicnn has words for, guitar and classical."""
    names = ("slide guitar", "classical", "tuba", "oboe", "bell", "gong")
    return catalogue._replace(class_names=names)


def test_words_judge_only_the_classes_they_name(ear, catalogue):
    judge = judges.fit_judges(("musicnn_tags",), tagged(catalogue))["musicnn_tags"]
    clips = catalogue.clips["seen"][:6].reshape(2, 3, -1) * judges.INT16_SCALE
    found = np.asarray(judge(clips))
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1.0, rtol=1e-4)
    assert np.isneginf(found[..., 2:]).all()
    assert np.isfinite(found[..., :2]).all()
    with pytest.raises(ValueError, match="two classes or more that musicnn has words"):
        judges.fit_judges(("musicnn_tags",), catalogue)


def test_two_judges_with_one_ear_hear_once(ear, catalogue):
    both = judges.fit_judges(("musicnn", "musicnn_tags"), tagged(catalogue))
    jax.effects_barrier()
    before = ear.calls
    clips = jnp.asarray(catalogue.clips["seen"][:4] * judges.INT16_SCALE)
    for judge in both.values():
        judge(clips)
    jax.effects_barrier()
    assert ear.calls == before + 1


def test_what_was_heard_is_kept_beside_the_data(ear, catalogue, tmp_path):
    clips = catalogue.clips["seen"][:4] * judges.INT16_SCALE

    def fitted(data, directory):
        jax.effects_barrier()
        before = ear.calls
        judge = judges.fit_judges(("ear",), data, directory)["ear"]
        jax.effects_barrier()
        calls = ear.calls - before
        return np.asarray(judge(clips)), calls

    first, heard = fitted(catalogue, tmp_path)
    again, heard_again = fitted(catalogue, tmp_path)
    (kept,) = tmp_path.iterdir()
    assert heard > 0 == heard_again
    np.testing.assert_array_equal(again, first)
    kept.write_bytes(b"")  # a file that cannot be read is made anew
    np.testing.assert_array_equal(fitted(catalogue, tmp_path)[0], first)
    others = dict(catalogue.clips, train=catalogue.clips["train"][::-1])
    assert fitted(catalogue._replace(clips=others), tmp_path)[1] > 0
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_written(ear, catalogue, tmp_path):
    (tmp_path / "file").write_text("")
    assert "ear" in judges.fit_judges(("ear",), catalogue, tmp_path / "file")


def test_whose_weights_they_are():
    found = judges.credit("musicnn_tags")
    assert (found["licence"], found["requirement"]) == ("ISC", "musicnn==0.1.0")
    assert judges.credit("aisfx")["licence"] == "CC BY 4.0"


def test_a_data_set_without_training_clips(ear, catalogue):
    with pytest.raises(ValueError, match="split is 'train', expected one of"):
        judges.fit_judges(
            ("ear",), catalogue._replace(clips={"seen": catalogue.clips["seen"]})
        )


@pytest.mark.slow
def test_how_well_they_judge_the_embedded_set():
    """Clean clips that no probe was fitted on; needs the data set and the packages.

    Right answers with 60 training clips a class: see LOWEST. Chance is 0.06 of 18
    classes, 0.14 of the 7 that musicnn has words for.
    """
    for package in ("aisfx", "musicnn"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    try:
        directory = find_directory("instruments", "data")
    except ValueError:
        pytest.skip("instruments is not prepared")
    catalogue = load_catalogue(directory)
    fitted = judges.fit_judges(tuple(LOWEST), catalogue, directory)
    for split, column in (("seen", 0), ("unseen", 1)):
        label = catalogue.clip_label[split][::2]  # half are as telling
        clips = catalogue.clips[split][::2, : crop_samples(catalogue)]
        waves = jnp.asarray(clips * judges.INT16_SCALE)
        for name, lowest in LOWEST.items():
            found = np.asarray(fitted[name](waves))
            named = np.isfinite(found[np.arange(len(label)), label])
            right = np.mean((found.argmax(axis=-1) == label)[named])
            assert right > lowest[column], (name, split, right)
