"""A whole grid as a user runs it: shared, resumed, and with a variant that fails."""

import json
import math
import signal
import time

import numpy as np
import pytest
from PIL import Image

from data_pipelines.catalogue import save_catalogue
from data_pipelines.manifest import write_manifest
from experiments.ablation.grid import load_grid
from experiments.ablation.plan import make_plan
from experiments.ablation.scores import score
from experiments.configs import debug
from experiments.datasets import open_data
from experiments.scoring import draw_tests
from experiments.settings import resolve

pytestmark = pytest.mark.slow

GRID = "experiments/grids/debug.py"
ABLATE = "experiments.ablate"


@pytest.fixture(scope="module")
def finished(program, once):
    """Return the workdir of the debug grid."""

    def fill(folder):
        outcome = program(ABLATE, f"--grid={GRID}", f"--workdir={folder}", "--jobs=2")
        assert outcome.code == 0, outcome.err
        assert outcome.out.startswith("13 runs for 24 stages of 8 cells; 0 of 13 have")
        assert "ablate 13/13" in outcome.err

    return once("debug_grid", fill)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}


def test_table_and_plot(finished):
    table = json.loads((finished / "table.json").read_text())
    rows = {row["name"]: row for row in table["variants"]}
    assert len(rows) == 4
    for row in rows.values():
        assert row["failed"] == {}
        for label in ("SI-SDRi, dB", "KL to the base", "s a step"):
            entry = row["metrics"][label]
            low, high = entry["ci95"]
            assert low <= entry["mean"] <= high
            assert np.isclose(entry["mean"], np.mean([*entry["values"].values()]))
    # The same policy stages, heard by other masks: a sampled mask is a worse one.
    sampled = rows["num_steps=2 mask=sample"]["difference"]
    assert set(sampled) == {"SI-SDRi, dB"}
    assert sampled["SI-SDRi, dB"]["mean"] < 0
    longer = rows["num_steps=4 mask=mode"]["difference"]["KL to the base"]
    assert longer["to"] == table["reference"] == "num_steps=2 mask=mode"
    assert longer["mean"] > 0
    assert table["peak_mb"] > 100
    text = (finished / "table.md").read_text()
    assert f"python -m experiments.ablate --grid={GRID}" in text
    for name in ("plot.png", "curves.png"):
        with Image.open(finished / name) as picture:
            assert min(picture.size) > 200
    assert len(table["curves"]) == 4
    assert "| num_steps=4 mask=mode | " in text[text.index("## Curves") :]
    longer = next(c for c in table["curves"] if c["name"] == "num_steps=4 mask=mode")
    assert longer["runs"]["0"]["samples"] == [16, 32, 48, 64]


def test_nothing_is_run_twice(program, finished):
    before = times(finished / "runs")
    outcome = program(ABLATE, f"--grid={GRID}", f"--workdir={finished}")
    assert outcome.code == 0, outcome.err
    assert "13 of 13 have ended" in outcome.out
    assert times(finished / "runs") == before
    argv = (f"--grid={GRID}", f"--workdir={finished}", "--dry_run")
    assert program(ABLATE, *argv).out.count("\n") == 1


def test_evaluate_hears_the_same_masks(program, finished, tmp_path):
    """The mixtures of a run, from disk; the mask's policy is the model's own."""
    config = resolve(debug.get_config())
    data = open_data(config.data, config.frontend, config.encoder.image_size)
    tests = draw_tests(data, 8, num_samples=config.frontend.num_samples)
    save_catalogue(data.catalogue, tmp_path)
    write_manifest(tests.manifest, tmp_path / "manifest.json")
    table = json.loads((finished / "table.json").read_text())
    row = next(r for r in table["variants"] if r["name"] == "num_steps=2 mask=sample")
    cell = row["runs"]["1"]
    outcome = program(
        "experiments.evaluate",
        f"--checkpoint={finished / 'runs' / cell['rl']}",
        f"--manifest={tmp_path / 'manifest.json'}",
        f"--json={tmp_path / 'scores.json'}",
        *("--queries=text", "--mask=sample"),
    )
    assert outcome.code == 0, outcome.err
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["mask"] == "sample"
    found = record["evaluation"]["text"]["si_sdri_db"]
    run = json.loads((finished / "runs" / cell["scores"] / "run.json").read_text())
    assert math.isclose(found, run["metrics"]["text/si_sdri_db"], abs_tol=1e-3)


def test_other_judges_hear_the_same_estimates(finished, ear):
    plan = make_plan(load_grid(GRID), finished / "runs", "data")
    key = plan.cells["num_steps=2 mask=mode", 0]["scores"]
    task = plan.tasks[key]
    before = json.loads((finished / "runs" / key / "run.json").read_text())["metrics"]
    found = score(task.settings, {**task.test, "judges": ("ear",)}, task.start)
    added = found.metrics.keys() - before.keys()
    assert added == {f"text/judge_ear{part}" for part in ("", "_accuracy", "_margin")}
    assert found.metrics["text/judge_ear"] < 0
    assert len(found.per_mixture["text/judge_ear"]) == 8
    kept = "text/si_sdri_db"
    assert math.isclose(found.metrics[kept], before[kept], abs_tol=1e-3)


def test_a_reader_that_has_gone_is_no_error(start, tmp_path):
    argv = ("--grid=experiments/grids/policy.py", f"--workdir={tmp_path}", "--dry_run")
    with start(ABLATE, *argv) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


NEEDY = """
import dataclasses
from experiments.ablation.grid import Variant, load_grid

def get_grid(scale="full"):
    grid = load_grid("experiments/grids/debug.py")
    needy = Variant("needy", {"test.judges": ("own", "aisfx")})
    return dataclasses.replace(grid, variants=(needy,), reference="needy")
"""


def test_a_judge_that_is_not_here_is_told_before_anything_runs(program, tmp_path):
    (tmp_path / "needy.py").write_text(NEEDY)
    hidden = tmp_path / "hidden"  # a package of that name, without weights, comes first
    (hidden / "aisfx").mkdir(parents=True)
    (hidden / "aisfx" / "__init__.py").touch()
    argv = (f"--grid={tmp_path / 'needy.py'}", f"--workdir={tmp_path / 'out'}")
    outcome = program(ABLATE, *argv, env={"PYTHONPATH": str(hidden)})
    assert outcome.code == 1
    assert "aisfx needs aisfx/" in outcome.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


BROKEN = """
import dataclasses
from experiments.ablation.grid import Variant, load_grid

def get_grid(scale="full"):
    grid = load_grid("experiments/grids/debug.py")
    broken = Variant("broken", {"rl:data.split": "nowhere", "rl:training.num_steps": 2})
    variants = (*grid.variants[:1], broken)
    return dataclasses.replace(grid, variants=variants, seeds=(0,))
"""


def test_a_failing_variant_leaves_the_others_alone(program, finished, tmp_path):
    """It also shares the runs of another grid."""
    (tmp_path / "broken.py").write_text(BROKEN)
    argv = [f"--grid={tmp_path / 'broken.py'}", f"--workdir={tmp_path / 'out'}"]
    outcome = program(ABLATE, *argv, f"--runs={finished / 'runs'}")
    assert outcome.code == 1
    assert "3 of 5 have ended" in outcome.out
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: 2 of 5 runs failed, see ")
    assert "Traceback" not in outcome.err
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    good, broken = table["variants"]
    assert "SI-SDRi, dB" in good["metrics"]
    assert broken["metrics"] == {}
    reasons = sorted(broken["failed"].values())
    assert "'nowhere'" in reasons[1] or "'nowhere'" in reasons[0]
    assert any(reason.startswith("not run, because policy-") for reason in reasons)


LONG = """
from experiments.ablation.grid import Grid, Metric, Stage, Variant

CHANGES = {
    "data.num_validation": 0,
    "training.num_steps": 400,
    "training.log_every": 5,
    "training.eval_every": 0,
    "training.save_every": 20,
}

def get_grid(scale="full"):
    base = Stage("base", "train", "experiments/configs/debug.py", "", CHANGES)
    loss = Metric("loss", "base", "supervised/loss", 3)
    return Grid("Long", (base,), (Variant("a"),), "a", (loss,), (0,))
"""


def steps_of(folder):
    path = folder / "metrics.jsonl"
    if not path.exists():
        return [0]
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] or [0]


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGKILL, -9, marks=pytest.mark.long)],
)
def test_stopped_in_the_middle_it_goes_on(start, program, tmp_path, number, code):
    (tmp_path / "long.py").write_text(LONG)
    argv = [f"--grid={tmp_path / 'long.py'}", f"--workdir={tmp_path}"]
    with start(ABLATE, *argv) as process:
        deadline = time.monotonic() + 120
        while not (found := [*(tmp_path / "runs").glob("*/checkpoints/20")]):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == code
    run = found[0].parents[1]
    # Also the worker of a killed program stops; until then it holds the folder.
    while time.monotonic() < deadline:
        outcome = program(ABLATE, *argv)
        if outcome.code == 0:
            break
        assert "no other run is using" in outcome.err
    assert outcome.code == 0, outcome.err
    assert steps_of(run) == [*range(5, 401, 5)]
    lines = (run / "log.txt").read_text().splitlines()
    shown = [int(line.split()[1].split("/")[0]) for line in lines if "/400" in line]
    assert shown.count(5) == 1  # the first steps were not taken again
    assert "| a | " in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--grid=no.py"], "grid is 'no.py', expected a Python file"),
        (["--grid=setup.cfg"], "grid is 'setup.cfg', expected one that runs"),
        ([f"--grid={GRID}:huge"], "scale is 'huge', expected full"),
        ([f"--grid={GRID}", "--jobs=-1"], "--jobs is -1, expected 0 or more"),
        ([f"--grid={GRID}", "--variants=no"], "--variants has 'no', expected one of"),
        ([f"--grid={GRID}", "--json=no/such.json"], "--json is 'no/such.json'"),
    ],
)
def test_bad_input_is_told_in_a_line(program, tmp_path, argv, parts):
    outcome = program(ABLATE, *argv, f"--workdir={tmp_path / 'out'}")
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith("error: ")
    assert parts in outcome.err
    assert not (tmp_path / "out").exists()
