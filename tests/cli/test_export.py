"""``marssep export``: one file, run by a process that has jax and numpy alone."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from marssep_jax.exporting import export_forward, make_forward
from marssep_jax.inference import Separator
from marssep_jax.untrained import untrained_bundle

RUN = """
import sys
import jax, jax.export, numpy as np
exported = jax.export.deserialize(open("violin.jaxexport", "rb").read())
np.save("found.npy", exported.call(np.load("mixture.npy")))
assert not any(name.startswith("marssep") for name in sys.modules)
"""
SIZE = 4_096


def noise(batch):
    return np.random.default_rng(0).normal(0, 0.1, (batch, SIZE)).astype(np.float32)


@pytest.mark.parametrize("option", ["--text", "--remove-text"])
def test_a_file_runs_without_the_package(marssep, checkpoint, tmp_path, option):
    outcome = marssep(
        *("export", checkpoint, "--output", "violin.jaxexport", option, "violin"),
        *("--batch", "2"),
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert "takes float32 (2, 4096) at 16000 Hz, runs on cpu" in outcome.out
    np.save(tmp_path / "mixture.npy", noise(2))
    subprocess.run([sys.executable, "-c", RUN], cwd=tmp_path, check=True, timeout=120)
    found = np.load(tmp_path / "found.npy")
    separator = Separator.load(checkpoint)
    queries = {"text": "violin"} if option == "--text" else {"remove": "violin"}
    for row, mixture in zip(found, noise(2), strict=True):
        whole = separator(mixture, 16_000, **queries).estimate
        # One window, so that nothing was joined; float32 in another order.
        np.testing.assert_allclose(row, whole, atol=1e-5)


def test_without_a_query_it_takes_embeddings():
    bundle = untrained_bundle()
    exported = export_forward(bundle, batch=1, platforms=("cpu", "tpu"))
    assert exported.platforms == ("cpu", "tpu")
    query = jax.random.normal(jax.random.key(0), (1, 12))
    expected = jax.jit(make_forward(bundle))(noise(1), query)
    np.testing.assert_allclose(exported.call(noise(1), query), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch", "0"], "batch is 0, expected >= 1"),
        (["--platforms", "abacus"], "platform is 'abacus', expected one of cpu, cuda"),
        (["--text", " "], "--text is ' ', expected some words or a file"),
        (["--weights", "1,2", "--text", "a"], "--weights has 2 numbers, expected one"),
    ],
)
def test_bad_arguments(marssep, checkpoint, tmp_path, argv, message):
    outcome = marssep("export", checkpoint, "--output", "a.jaxexport", *argv)
    assert outcome.code == 1
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "a.jaxexport").exists()


def test_no_place_for_the_file(marssep, checkpoint):
    outcome = marssep("export", checkpoint, "--output", "no/a.jaxexport")
    assert outcome.code == 1
    assert "--output is 'no/a.jaxexport', expected a file in" in outcome.err
