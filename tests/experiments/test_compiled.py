"""Functions shared by the stages of a run."""

import dataclasses

import numpy as np

from experiments import compiled
from experiments.settings import resolve
from marssep_jax.bundle import ModelBundle
from marssep_jax.config import FrontendConfig, JudgeConfig, to_dict
from marssep_jax.encoders import make_judge

FRONTEND = FrontendConfig(
    sample_rate_hz=8_000, num_samples=2_047, n_fft=256, hop=64, num_rows=32
)
JUDGE = JudgeConfig(num_rows=8, width=8)


def test_equal_settings_share_what_is_compiled():
    settings, again = resolve({}), resolve({})
    first = compiled.embedder(settings.encoder, FRONTEND)
    assert compiled.embedder(again.encoder, dataclasses.replace(FRONTEND)) is first
    other = dataclasses.replace(FRONTEND, hop=32)
    assert compiled.embedder(settings.encoder, other) is not first


def test_a_model_without_a_judge():
    config = {"frontend": to_dict(FRONTEND), "class_names": ["a", "b", "c"]}
    bundle = ModelBundle(config, None, None, None, None)
    assert compiled.bundle_judge(bundle) is None
    config["judge"] = to_dict(JUDGE)
    assert compiled.bundle_judge(bundle) is None  # its parameters are missing


def test_a_judge_scores_every_class():
    params = make_judge(JUDGE, FRONTEND, 3).init(np.uint32([0, 1]))
    config = {"frontend": to_dict(FRONTEND), "judge": to_dict(JUDGE)}
    config["class_names"] = ["a", "b", "c"]
    judge = compiled.bundle_judge(ModelBundle(config, None, None, None, params))
    waves = np.random.default_rng(0).normal(size=(2, 5, 2_047)).astype(np.float32)
    found = np.asarray(judge(waves))
    assert found.shape == (2, 5, 3)
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1.0, rtol=1e-5)
