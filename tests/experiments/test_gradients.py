"""The table of estimators: its arithmetic, and the whole program."""

import json

import numpy as np
import pytest

from experiments.gradient_table import CASES, cosine, markdown


def test_cosine_by_hand():
    assert cosine(np.array([1.0, 0.0]), np.array([3.0, 4.0])) == pytest.approx(0.6)
    assert np.isnan(cosine(np.zeros(2), np.ones(2)))


@pytest.mark.slow
@pytest.mark.long
def test_the_program_tells_signal_from_noise(chain, program, tmp_path):
    status, out, err = program(
        "experiments.gradients",
        "--config=experiments/configs/debug.py:policy",
        f"--config.start.separator={chain}/stages/supervised",
        f"--config.start.encoder={chain}/stages/listeners",
        "--quick",
        "--estimates=4",
        "--paths=16",
        f"--json={tmp_path}/rows.json",
    )
    assert status == 0, err
    record = json.loads((tmp_path / "rows.json").read_text())
    score, path = record["rows"]
    assert (score["estimator"], path["estimator"]) == ("score", "pathwise")
    assert path["cos"] > 0.7
    assert score["cos"] < path["cos"]
    assert score["cos_paper"] == pytest.approx(1.0)
    assert markdown(record["rows"]) in out
    assert len({case for case in CASES}) == len(CASES)
