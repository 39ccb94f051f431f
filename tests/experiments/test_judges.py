"""Judges that others trained, fitted on a data set; here a network of two numbers."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import judges


def test_names():
    assert judges.check_names(["own"]) == ()
    assert judges.check_names(["aisfx", "own", "aisfx"]) == ("aisfx",)
    with pytest.raises(
        ValueError, match=r"judges is 'own,ear', expected some of own"
    ):
        judges.check_names(["own", "ear"])


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


def test_a_missing_package_says_how_to_install_it(catalogue, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"--no-deps aisfx==0\.1\.2"):
        judges.fit_judges(("aisfx",), catalogue)
