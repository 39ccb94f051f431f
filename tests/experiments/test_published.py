"""The published runs: their files resolve to what the paper and OmniSep state."""

import pathlib

import pytest

from experiments import published
from experiments.config_files import load_config_function
from experiments.settings import resolve
from marssep_jax.config import to_dict
from marssep_jax.encoders.imagebind import ImageBindConfig
from marssep_jax.presets import PRESETS

FOLDER = pathlib.Path("experiments/configs")
DATASETS = ("vggsound", "music")
STAGES = ("supervised", "rl", "rl_trust_region")


def settings(name):
    made = resolve(load_config_function(str(FOLDER / f"{name}.py"))())
    encoder = to_dict(made.encoder)
    assert {key: encoder[key] for key in published.ENCODER} == published.ENCODER
    sizes = ImageBindConfig()
    for key in ("embed_dim", "image_size", "text_length"):
        assert encoder[key] == getattr(sizes, key)
    return made


@pytest.mark.parametrize("dataset", DATASETS)
def test_supervised(dataset):
    made = settings(f"{dataset}_supervised")
    assert (made.stage, made.name) == ("supervised", f"{dataset}_supervised")
    assert made.data.dataset == dataset
    assert made.frontend.sample_rate_hz == 16_000
    assert made.frontend.num_frames == 256
    assert made.separator.embed_dim == made.encoder.embed_dim == 1024
    assert made.separator.architecture == "omnisep"
    optimiser = made.optimiser
    assert (optimiser.learning_rate, optimiser.weight_decay) == (1e-3, 0.0)
    assert optimiser.warmup_steps + optimiser.decay_steps == 100_000
    assert (made.training.batch_size, made.training.mask_target) == (128, "binary")


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("preset", PRESETS)
def test_reinforced(dataset, preset):
    name = f"{dataset}_rl" + ("" if preset == "paper" else f"_{preset}")
    made = settings(name)
    assert (made.stage, made.name) == ("policy", name)
    assert made.data.dataset == dataset
    assert made.rl == PRESETS[preset]
    assert made.policy.kappa == 9.0
    assert (made.optimiser.learning_rate, made.optimiser.weight_decay) == (2e-4, 0.01)
    assert made.start.separator == f"runs/{dataset}_supervised"


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("stage", STAGES)
def test_files_open_with_their_commands(dataset, stage):
    name = f"{dataset}_{stage}"
    text = (FOLDER / f"{name}.py").read_text()
    assert f"--config=experiments/configs/{name}.py" in text
    for heading in ("Run:", "Time:", "Score:", "Last run:"):
        assert f"\n{heading}" in text
