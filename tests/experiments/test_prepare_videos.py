"""The program that prepares videos: whole, stopped, without room, and what follows."""

import json
import os
import pathlib
import resource
import signal

import numpy as np
import pytest

from data_pipelines.catalogue import load_catalogue
from tests.support.videos import make_video

pytestmark = pytest.mark.slow

PREPARE = "experiments.prepare"
MANY = 200
SIZES = (
    "--dataset=vggsound",
    "--sample_rate_hz=11025",
    "--num_samples=12000",
    "--crop_samples=8191",
    "--image_size=48",
    "--workers=2",
)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Six films in each part, of three classes, and a list of each part."""
    home = tmp_path_factory.mktemp("films")
    for number, part in enumerate(("train", "val", "test")):
        rows = []
        for film in range(6):
            name = f"{part:-<8}{film:03d}_{film:06d}"
            hz = 300 + 300 * (film % 3) + 20 * number + 5 * film
            make_video(home / f"{name}.mp4", 1.2, hz=hz)
            rows.append(f"x/{name}.wav,y,12,class {film % 3}")
        (home / f"{part}.csv").write_text("\n".join(rows) + "\n")
    return home


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """One film under many names, so that there is time to stop."""
    home = tmp_path_factory.mktemp("many")
    film = make_video(home / "film.mp4", 2.0)
    rows = []
    for number in range(MANY):
        os.link(film, home / f"v{number:010d}_000000.mp4")
        rows.append(f"v{number:010d},0,class {number % 2},train")
    (home / "vggsound.csv").write_text("\n".join(rows) + "\n")
    return home


def test_train_and_evaluate_on_videos(program, films, tmp_path):
    data, report = tmp_path / "data", tmp_path / "summary.json"
    made = program(
        PREPARE,
        *SIZES,
        f"--manual_dir={films}",
        f"--data_dir={data}",
        f"--json={report}",
    )
    assert made.code == 0, made.err
    assert "vggsound: 18 present, 0 missing, 0 unreadable; 0 without" in made.out
    assert "extract vggsound 18/18" in made.err
    summary = json.loads(report.read_text())
    assert summary["videos"] == {"present": 18, "missing": 0, "unreadable": 0}
    # Training keeps a picture of each second-long clip, and so do the other parts.
    counts = {"train": 6, "validation": 6, "test": 6, "pictures": 18}
    assert summary["counts"] == counts
    trained = program(
        "experiments.train",
        "--config=experiments/configs/debug.py",
        f"--workdir={tmp_path / 'run'}",
        "--config.data.dataset=vggsound",
        f"--config.data.data_dir={data}",
        "--config.training.num_steps=4",
    )
    assert trained.code == 0, trained.err
    manifest = pathlib.Path(summary["directory"], "manifest_test.json")
    entries = json.loads(manifest.read_text())
    entries["mixtures"] = entries["mixtures"][:8]
    manifest.write_text(json.dumps(entries))
    scores = tmp_path / "scores.json"
    scored = program(
        "experiments.evaluate",
        f"--checkpoint={tmp_path / 'run'}",
        f"--manifest={manifest}",
        f"--json={scores}",
    )
    assert scored.code == 0, scored.err
    kinds = json.loads(scores.read_text())["evaluation"]
    assert kinds.keys() == {"text", "audio", "image", "composed"}


def extracted(data):
    return {p: p.stat().st_mtime_ns for p in data.rglob("*.npz")}


def test_stopped_and_gone_on(start, program, many, tmp_path):
    data = tmp_path / "data"
    argv = (*SIZES, f"--manual_dir={many}", f"--data_dir={data}")
    with start(PREPARE, *argv, start_new_session=True) as process:
        line = process.stderr.readline()
        assert line.startswith("extract vggsound "), line
        os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "stopped"
    assert "Traceback" not in err
    before = extracted(data)
    assert 0 < len(before) < MANY
    for path in before:
        with np.load(path) as file:
            assert len(file["audio"])
    assert not list(data.rglob("*.partial"))
    assert not list(data.rglob("catalogue.json"))
    outcome = program(PREPARE, *argv)
    assert outcome.code == 0, outcome.err
    after = extracted(data)
    assert len(after) == MANY
    assert {path: after[path] for path in before} == before
    (directory,) = (path.parent for path in data.rglob("catalogue.json"))
    counts = load_catalogue(directory).description["counts"]
    assert counts["train"] + counts["validation"] == MANY


def test_killed_and_gone_on(start, program, many, tmp_path):
    data = tmp_path / "data"
    argv = (*SIZES, f"--manual_dir={many}", f"--data_dir={data}")
    with start(PREPARE, *argv) as process:
        process.stderr.readline()
        process.kill()
        process.communicate(timeout=60)
    before = extracted(data)
    assert len(before) < MANY
    assert program(PREPARE, *argv).code == 0
    after = extracted(data)
    assert len(after) == MANY
    assert not list(data.rglob("*.partial"))
    assert not list(data.rglob("*incomplete*"))


def test_no_room(start, films, tmp_path):
    """No file may grow past 10 kB: writes fail half-way."""
    limits = (10_000, resource.RLIM_INFINITY)
    process = start(
        PREPARE,
        *SIZES,
        f"--manual_dir={films}",
        f"--data_dir={tmp_path / 'data'}",
    )
    # Long before it writes; preexec_fn would fork a process that has JAX's threads.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    with process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    line = err.splitlines()[-1]
    assert line.startswith("error: ")
    assert f"cannot write {tmp_path / 'data'}/vggsound/extracted-" in line
    assert line.endswith("(File too large)")
    assert "Traceback" not in err
    assert not list((tmp_path / "data").rglob("*.partial"))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--dataset=music"], "manual_dir is missing, expected a folder"),
        (["--dataset=music", "--manual_dir=nowhere"], "manual_dir is 'nowhere', expec"),
        (
            [*SIZES, "--manual_dir=tests", "--image_size=0"],
            "image_size is 0, expected 1",
        ),
        (
            [*SIZES, "--manual_dir=tests"],
            "manual_dir is 'tests', expected a published l",
        ),
    ],
)
def test_bad_input(program, tmp_path, argv, expected):
    outcome = program(PREPARE, *argv, f"--data_dir={tmp_path}")
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: {expected}"), outcome.err
    assert len(outcome.err.splitlines()) == 1
