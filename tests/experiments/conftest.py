"""A small data set, an encoder that needs no training, and whole programs."""

import fcntl
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.synthetic import synthetic_catalogue
from experiments import judges
from experiments.embeddings import EmbeddingBank
from marssep_jax.encoders import Encoder
from tests.support.disks import mounted
from tests.support.tiny_ear import Words
from tests.support.training_runs import LONG

NUM_SAMPLES, TEXT_LENGTH, DIM = 2_048, 24, 4


@pytest.fixture(scope="session")
def catalogue():
    """Return six classes of sounds, short ones; the last has no pictures."""
    return synthetic_catalogue(
        NUM_SAMPLES,
        crop_samples=1_024,
        clips_per_class=4,
        test_clips_per_class=2,
        image_size=8,
        images_per_class=4,
    )


@pytest.fixture
def ear(monkeypatch):
    """Return a network that stands for all that others trained."""
    network = Words()
    monkeypatch.setattr(judges, "NETWORKS", {"ear": network, "musicnn": network})
    return network


def _project(axes, params, values):
    """Return a unit vector that depends on every number of the input."""
    flat = values.reshape(*values.shape[: values.ndim - axes], -1)
    phase = np.outer(np.arange(flat.shape[-1]), np.arange(1, DIM + 1))
    out = flat.astype(jnp.float32) @ jnp.cos(params["scale"] * phase.astype(np.float32))
    return out / jnp.linalg.norm(out, axis=-1, keepdims=True)


@pytest.fixture(scope="session")
def encoder():
    """Return an encoder of fixed projections; ``params["scale"]`` changes them."""
    sound, text, image = (partial(_project, axes) for axes in (1, 1, 3))
    return Encoder(None, sound, None, text, image, DIM, {}, {})


@pytest.fixture(scope="session")
def bank(catalogue):
    """Return embeddings that are told apart by their numbers."""
    generator = np.random.default_rng(0)

    def unit(rows):
        vectors = generator.standard_normal((rows, DIM), np.float32)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    clips = {split: unit(len(rows)) for split, rows in catalogue.clips.items()}
    return EmbeddingBank(unit(len(catalogue.texts)), clips, unit(len(catalogue.images)))


ROOT = Path(__file__).parents[2]
DEBUG = "experiments/configs/debug.py"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def start():
    """Return a function that starts ``python -m NAME ARGUMENTS``."""

    def run(name, *argv, env=None, **options):
        command = [sys.executable, "-m", name, *map(str, argv)]
        # Small programs are worth keeping too: children compile the same ones.
        small = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | small | (env or {}), **(pipes | options)
        )

    return run


@pytest.fixture(scope="session")
def program(start):
    """Return a function that runs ``python -m NAME ARGUMENTS`` to its end."""

    def run(name, *argv, env=None):
        with start(name, *argv, env=env) as process:
            out, err = process.communicate(timeout=600)
        return Outcome(process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Return a function that makes a folder once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent

    def make(name, fill):
        folder, mark = base / name, base / f"{name}.made"
        with open(base / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not mark.exists():
                fill(folder)
                mark.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def chain(program, once):
    """Return the folder of a whole run; beside it lie its seconds and its output."""

    def fill(folder):
        begun = time.monotonic()
        options = (f"--config={DEBUG}", f"--workdir={folder}")
        outcome = program("experiments.quickstart", *options)
        assert outcome.code == 0, outcome.err
        folder.with_suffix(".seconds").write_text(str(time.monotonic() - begun))
        folder.with_suffix(".out").write_text(outcome.out)

    return once("chain", fill)


@pytest.fixture(scope="session")
def trained(program, once):
    """Return the workdir of a training that nobody disturbed."""

    def fill(folder):
        outcome = program("experiments.train", *LONG, f"--workdir={folder}")
        assert outcome.code == 0, outcome.err

    return once("trained", fill)


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 4 MB, where that is allowed."""
    with mounted(tmp_path / "disk", "4m") as disk:
        yield disk
