"""A tiny untrained model on disk, and the program run in this process."""

from typing import NamedTuple

import jax
import numpy as np
import pytest
import soundfile

from marssep_jax import cli
from marssep_jax.bundle import ModelBundle, save_bundle
from marssep_jax.config import (
    EncoderConfig,
    FrontendConfig,
    SeparatorConfig,
    to_dict,
)
from marssep_jax.encoders import make_encoder
from marssep_jax.models import make_separator

FRONTEND = FrontendConfig(num_samples=4_096, num_rows=32)
SEPARATOR = SeparatorConfig("compact", embed_dim=12, num_channels=8, widths=(8, 16))
ENCODER = EncoderConfig(embed_dim=12, audio_widths=(8,), image_widths=(8,))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Return the folder of a bundle with random weights."""
    network_key, encoder_key = jax.random.split(jax.random.key(0))
    params, state = make_separator(SEPARATOR).init(network_key, FRONTEND)
    config = {
        "frontend": to_dict(FRONTEND),
        "separator": to_dict(SEPARATOR),
        "encoder": to_dict(ENCODER),
        "judge": None,
        "class_names": ["violin", "flute"],
        "step": 0,
        "stage": "untrained",
        "licence": "CC0-1.0",
        "versions": {},
    }
    encoder_params = {"encoder": make_encoder(ENCODER, FRONTEND).init(encoder_key)}
    path = tmp_path_factory.mktemp("checkpoint") / "model"
    save_bundle(path, ModelBundle(config, params, state, encoder_params, None))
    return str(path)


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def marssep(capfd, monkeypatch, tmp_path):
    """Return a function that runs ``marssep ARGS`` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        code = cli.main([str(arg) for arg in argv])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def recording(tmp_path):
    """Return a function that writes noise under a name."""

    def write(name, rate=16_000, channels=1, num_samples=9_000, **settings):
        generator = np.random.default_rng(0)
        samples = generator.uniform(-0.3, 0.3, (num_samples, channels))
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, **settings)
        return path

    return write
