"""The program that converts published weights, as it is called."""

import json

import numpy as np
import pytest

from tests.support.omnisep_keys import checkpoint
from tests.support.published import rule_state
from tests.support.torch_zip import write_torch

pytestmark = pytest.mark.slow


def test_a_separator_is_converted_and_inspected(program, tmp_path):
    source = write_torch(tmp_path / "best.pth", checkpoint())
    output, report = tmp_path / "ours", tmp_path / "report.json"
    outcome = program(
        "experiments.convert",
        *("--encoder=omnisep", f"--source={source}"),
        *(f"--output={output}", f"--json={report}"),
    )
    assert outcome.code == 0, outcome.err
    assert "OmniSep's separator" in outcome.out
    assert "SHA-256" in outcome.out
    record = json.loads(report.read_text())
    assert record["keys"]["missing"] == record["keys"]["extra"] == []
    shown = program("marssep_jax.cli", "inspect", output)
    assert shown.code == 0, shown.err
    assert "converted (omnisep)" in shown.out


def test_weights_of_something_else_are_named_in_one_line(program, tmp_path):
    arrays = {k: np.asarray(v) for k, v in rule_state({"a.weight": (3, 4)}).items()}
    source = write_torch(tmp_path / "other.pth", arrays)
    outcome = program(
        "experiments.convert",
        *("--encoder=imagebind", f"--source={source}", f"--output={tmp_path / 'o'}"),
    )
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "expected the weights of ImageBind" in outcome.err
    assert not (tmp_path / "o").exists()


def test_missing_source(program, tmp_path):
    outcome = program(
        "experiments.convert",
        *("--encoder=minilm", "--source=nowhere", f"--output={tmp_path / 'o'}"),
    )
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "'nowhere'" in outcome.err
