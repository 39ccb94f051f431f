"""A tiny untrained model on disk, and the program run in this process."""

from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from marssep_jax import cli
from marssep_jax.bundle import save_bundle
from marssep_jax.untrained import untrained_bundle


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Return the folder of a bundle with random weights."""
    path = tmp_path_factory.mktemp("checkpoint") / "model"
    save_bundle(path, untrained_bundle())
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
