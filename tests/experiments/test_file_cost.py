"""What separating a file costs: the program on its smallest model."""

import json

import pytest
import soundfile

from experiments.file_cost import write_noise


def test_noise_has_its_length(tmp_path):
    write_noise(tmp_path / "a.wav", 13)
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.frames, info.samplerate, info.channels) == (13 * 44_100, 44_100, 2)
    sound, _ = soundfile.read(tmp_path / "a.wav")
    assert 0.05 < abs(sound).max() < 1.0


@pytest.mark.slow
def test_rows_of_the_program(program, tmp_path):
    path = tmp_path / "cost.json"
    status, out, err = program(
        *("experiments.file_cost", "--models=small", "--lengths=10,20"),
        *("--batches=1", f"--json={path}"),
    )
    assert status == 0, err
    rows = json.loads(path.read_text())["rows"]
    assert [(row["model"], row["seconds"]) for row in rows] == [
        ("small", 10),
        ("small", 20),
    ]
    for row in rows:
        assert 0 < row["rtf"] < 10
        assert 100 < row["peak_mb"] < 4_000
    assert "| cpu | small | 20 | 1 | float32 |" in out


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
