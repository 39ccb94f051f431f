"""Curves of runs: samples, seconds without compiling, and collapses counted by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments.ablation import curves
from experiments.ablation.grid import Curve, Grid, Metric, Stage, Variant
from experiments.ablation.plan import Plan, Task

SIZE = {
    "stage": "policy",
    "name": "rl",
    "training": {"batch_size": 3},
    "data": {"num_sources": 2},
    "rl": {"group_size": 4},
}
CURVES = (Curve("quality", "rl", "eval/si_sdri_db", collapse=0.5),)


def make_grid(drawn=CURVES, seeds=(0, 1)):
    return Grid(
        "A grid",
        (Stage("rl", "train", "config.py"),),
        (Variant("a"), Variant("b")),
        "a",
        (Metric("time", "rl", "s"),),
        seeds,
        curves=drawn,
    )


def write(folder, rows, settings=SIZE):
    """Write the rows of runs, by variant and seed, and return their plan."""
    tasks, cells = {}, {}
    for (name, seed), lines in rows.items():
        key = f"policy-{name}{seed}"
        tasks[key] = Task(key, "rl", "train", settings, {}, {}, ())
        cells[name, seed] = {"rl": key}
        (folder / key).mkdir()
        text = "".join(json.dumps({"stage": "rl", **row}) + "\n" for row in lines)
        (folder / key / "metrics.jsonl").write_text(text)
    return Plan(tasks, cells)


def scored(values):
    """Return rows of a run that compiles for 10 s and takes 2 s a step."""
    rows = [
        {
            "step": step,
            "wall_s": 10.0 * (step > 0) + 2.0 * step,
            "run/compile_s": {0: 7.0, 5: 10.0}.get(step, 0.0),
            "eval/si_sdri_db": value,
        }
        for step, value in zip((0, 5, 10), values, strict=True)
    ]
    between = {"step": 7, "wall_s": 24.0, "run/compile_s": 0.0, "reward/mean": 1.0}
    return [*rows[:2], between, rows[2]]


@pytest.fixture
def read(tmp_path):
    plan = write(
        tmp_path,
        {
            ("a", 0): scored([4.0, 4.1, 4.2]),
            ("a", 1): scored([4.0, 2.0, 3.4]),
            ("b", 0): scored([4.0, None, 3.6]),
            ("b", 1): scored([3.0, 3.0, float("nan")]),
        },
    )
    return {c["name"]: c for c in curves.read_curves(make_grid(), plan, tmp_path)}


def test_a_curve_has_samples_and_seconds_of_steps(read):
    run = read["a"]["runs"]["0"]
    assert run["samples"] == [0, 5 * 24, 10 * 24]  # 3 mixtures, 2 sources, 4 masks
    assert run["wall_s"] == [0.0, 10.0, 20.0]
    assert run["values"] == [4.0, 4.1, 4.2]


def test_what_is_missing_or_not_finite_is_left_out(read):
    assert read["b"]["runs"]["0"]["values"] == [4.0, 3.6]
    assert read["b"]["runs"]["1"]["values"] == [3.0, 3.0]


def test_collapses_are_counted_by_the_last_value(read):
    assert [read["a"][key] for key in ("collapsed", "num_runs")] == [1, 2]
    assert read["b"]["collapsed"] == 0  # it fell by 0.4
    assert np.isclose(read["a"]["first"], 4.0)
    assert np.isclose(read["a"]["last"], 3.8)


def test_changes_have_an_interval_over_seeds(read):
    """Of +0.2 and -0.6: t of one degree is 12.706, and 0.4 the standard error."""
    assert np.isclose(read["a"]["change"], -0.2)
    expected = [-0.2 - 12.706 * 0.4, -0.2 + 12.706 * 0.4]
    assert np.allclose(read["a"]["change_ci95"], expected, atol=1e-3)


def test_table_and_picture(read, tmp_path):
    grid = make_grid()
    text = curves.markdown(grid, [*read.values()])
    assert "| variant | quality | quality: fell by more than 0.5 |" in text
    assert "| a | 4.000 to 3.800 | 1 of 2 |" in text
    assert "| b | 3.500 to 3.300 | 0 of 2 |" in text
    curves.save_curves(grid, [*read.values()], tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert min(picture.size) > 200
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10


def test_runs_that_have_not_begun_are_no_curves(tmp_path):
    plan = write(tmp_path, {("a", 0): [], ("b", 0): []})
    grid = make_grid(seeds=(0,))
    assert curves.read_curves(grid, plan, tmp_path) == []
    assert curves.markdown(grid, []).count("\n| ") == 2


def test_supervised_steps_hear_no_masks(tmp_path):
    rows = {("a", 0): scored([1.0, 2.0, 3.0]), ("b", 0): []}
    plan = write(tmp_path, rows, SIZE | {"stage": "supervised"})
    (found,) = curves.read_curves(make_grid(seeds=(0,)), plan, tmp_path)
    assert found["runs"]["0"]["samples"] == [0, 0, 0]


def test_a_curve_of_no_training_is_refused():
    with pytest.raises(ValueError, match="stage of a curve is 'scores', expected one"):
        make_grid((Curve("quality", "scores", "text/si_sdri_db"),))
