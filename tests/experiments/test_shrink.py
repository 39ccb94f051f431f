"""The program that writes a model again in half the room."""

import hashlib

import numpy as np
import pytest

from marssep_jax.bundle import ARRAYS, load_bundle

pytestmark = pytest.mark.slow


def test_the_packaged_model_in_half_the_room(program, tmp_path):
    outcome = program(
        "experiments.shrink", "--checkpoint=instruments", f"--output={tmp_path / 'm'}"
    )
    assert outcome.code == 0, outcome.err
    digest = hashlib.sha256((tmp_path / "m" / ARRAYS).read_bytes()).hexdigest()
    assert digest in outcome.out
    shrunk = load_bundle(tmp_path / "m")
    kernel = shrunk.separator_params
    while isinstance(kernel, dict):
        kernel = next(iter(kernel.values()))
    assert kernel.dtype == np.float32


def test_no_model_is_one_line(program, tmp_path):
    outcome = program(
        "experiments.shrink", "--checkpoint=nothing", f"--output={tmp_path / 'm'}"
    )
    assert outcome.code == 1
    assert outcome.err.startswith("error: checkpoint is 'nothing'")
    assert outcome.err.count("\n") == 1
