"""What separating a file costs: the program on its smallest model."""

import json

import pytest
import soundfile

from experiments.benchmarks import files
from experiments.benchmarks.files import cost_table, write_noise


def test_noise_has_its_length(tmp_path):
    write_noise(tmp_path / "a.wav", 13)
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.frames, info.samplerate, info.channels) == (13 * 44_100, 44_100, 2)
    sound, _ = soundfile.read(tmp_path / "a.wav")
    assert 0.05 < abs(sound).max() < 1.0


COST = {
    "device": "cpu",
    "model": "full",
    "seconds": 60,
    "windows": 4,
    "precision": "float32",
    "first_s": 0.5,
    "peak_mb": 700.4,
}


@pytest.mark.parametrize("times", [{"rtfs": [0.2, 0.1]}, {"ours_s": 0.1}])
def test_table_of_either_program(times):
    assert cost_table([{"name": "startup.cli_help"}]) == ""
    *_, line = cost_table([{"name": "other"}, COST | times]).splitlines()
    assert line == "| cpu | full | 60 | 4 | float32 | 0.1000 | 0.50 | 700 |"


@pytest.mark.slow
@pytest.mark.long
def test_rows_of_the_program(program, tmp_path):
    path = tmp_path / "cost.json"
    status, out, err = program(
        *("experiments.file_cost", "--models=small", "--lengths=10"),
        *("--batches=1", f"--json={path}"),
    )
    assert status == 0, err
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["model"], row["seconds"], row["windows"]) == ("small", 10, 1)
    assert 0 < min(row["rtfs"]) < 10
    assert 0 < row["first_s"] < 100
    assert 100 < row["peak_mb"] < 4_000
    assert "| cpu | small | 10 | 1 | float32 |" in out


def test_rows_of_the_suite(monkeypatch):
    cost = COST | {"rtfs": [0.2, 0.1]}
    monkeypatch.setattr(files, "measure_apart", lambda case: dict(cost))
    found = {row["name"]: row for row in files.measure(tiny=False)}
    assert found.keys() == set(files.NAMES)
    row = found["files.full_rtf"]
    assert (row["ours_s"], row["speedup"], row["runs"]) == (0.1, 10.0, 2)
    assert (row["target"], row["reached"], row["peak_mb"]) == (10.0, True, 700.4)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--models=huge", "--models is ['huge'], expected some of small, full"),
        ("--lengths=1", "--lengths is '1', expected numbers >= 10"),
        ("--batches=x", "--batches is 'x', expected numbers >= 1"),
    ],
)
@pytest.mark.slow
def test_bad_options(program, option, message):
    status, _, err = program("experiments.file_cost", option)
    assert (status, err.count("\n")) == (1, 1)
    assert message in err
