"""What runs show: means, intervals and differences worked by hand."""

import math

import numpy as np
import pytest
from PIL import Image

from experiments.ablation import results, tables
from experiments.ablation.grid import Grid, Metric, Stage, Variant
from experiments.ablation.plan import Plan
from experiments.ablation.task import last_values

METRICS = (
    Metric("SI-SDRi, dB", "scores", "text/si_sdri_db"),
    Metric("time", "rl", "s"),
)
STAGES = (
    Stage("rl", "train", "config.py"),
    Stage("scores", "evaluate", "config.py", start={"model": "rl"}),
)
GRID = Grid(
    "A grid",
    STAGES,
    (Variant("a"), Variant("b"), Variant("c", reference="b")),
    "a",
    METRICS,
    (0, 1, 2),
)
T_2 = 4.30265273  # 97.5 % of Student's t with two degrees of freedom


def make(values, mixtures="same"):
    """Return plan and records of ``{variant: [value by seed]}``; None has not ended."""
    cells, records = {}, {}
    for name, numbers in values.items():
        for seed, number in enumerate(numbers):
            cell = {"rl": f"rl-{name}{seed}", "scores": f"scores-{name}{seed}"}
            cells[name, seed] = cell
            if number is not None:
                records[cell["scores"]] = {
                    "metrics": {"text/si_sdri_db": number},
                    "per_mixture": {"text/si_sdri_db": [number - 1, number + 1, None]},
                    "mixtures": mixtures if name == "a" else "same",
                }
    return Plan({}, cells), records


def rows_of(values, grid=GRID, **options):
    rows = results.summarise(grid, *make(values, **options), {})
    return {row["name"]: row for row in rows}


def test_means_and_intervals_over_seeds():
    rows = rows_of({"a": [1.0, 2.0, 3.0], "b": [2.0, 2.5, 6.0], "c": [0.0, 0.0, 0.0]})
    entry = rows["a"]["metrics"]["SI-SDRi, dB"]
    assert entry["mean"] == 2.0
    reach = T_2 * 1.0 / math.sqrt(3)
    np.testing.assert_allclose(entry["ci95"], [2 - reach, 2 + reach], rtol=1e-9)
    assert entry["values"] == {"0": 1.0, "1": 2.0, "2": 3.0}
    assert "time" not in rows["a"]["metrics"]  # nothing measured it


def test_differences_are_taken_seed_by_seed():
    rows = rows_of({"a": [1.0, 2.0, 3.0], "b": [2.0, 2.5, 6.0], "c": [0.0, 0.0, 0.0]})
    assert rows["a"]["difference"] == {}
    entry = rows["b"]["difference"]["SI-SDRi, dB"]
    assert (entry["to"], entry["mean"]) == ("a", 1.5)
    assert entry["values"] == {"0": 1.0, "1": 0.5, "2": 3.0}
    reach = T_2 * np.std([1.0, 0.5, 3.0], ddof=1) / math.sqrt(3)
    np.testing.assert_allclose(entry["ci95"], [1.5 - reach, 1.5 + reach], rtol=1e-9)
    # Every mixture differs by as much, so that other mixtures change nothing.
    np.testing.assert_allclose(entry["ci95_mixtures"], [1.5, 1.5])
    assert rows["c"]["difference"]["SI-SDRi, dB"]["to"] == "b"


def test_seeds_that_one_of_the_two_lacks():
    rows = rows_of({"a": [1.0, None, 3.0], "b": [2.0, 2.5, None], "c": [None] * 3})
    entry = rows["b"]["difference"]["SI-SDRi, dB"]
    assert (entry["mean"], entry["ci95"], entry["runs"]) == (1.0, None, 1)
    assert rows["c"]["metrics"] == {}


def test_other_mixtures_have_no_interval_over_mixtures():
    given = {"a": [1.0, 2.0, 3.0], "b": [2.0, 2.5, 6.0], "c": [0.0] * 3}
    rows = rows_of(given, mixtures="others")
    assert rows["b"]["difference"]["SI-SDRi, dB"]["ci95_mixtures"] is None


def test_a_run_that_seeds_share_counts_once():
    plan, records = make({"a": [1.0] * 3, "b": [2.0] * 3, "c": [2.0] * 3})
    for name in "ab":
        for seed in range(3):
            plan.cells[name, seed] = plan.cells[name, 0]
    for seed in range(3):
        plan.cells["c", seed] = plan.cells["b", 0]
    rows = {r["name"]: r for r in results.summarise(GRID, plan, records, {})}
    entry = rows["a"]["metrics"]["SI-SDRi, dB"]
    assert (entry["runs"], entry["ci95"]) == (1, None)
    assert rows["b"]["difference"]["SI-SDRi, dB"]["ci95"] is None
    assert rows["c"]["difference"] == {}  # the same run on both sides


def test_failures_are_told_of_the_variants_that_asked():
    plan, records = make({"a": [1.0] * 3, "b": [2.0, 3.0, None], "c": [1.0] * 3})
    rows = results.summarise(GRID, plan, records, {"scores-b2": "no room"})
    assert [row["failed"] for row in rows] == [{}, {"scores-b2": "no room"}, {}]
    text = tables.markdown(GRID, rows, "command")
    assert "- `scores-b2`: no room" in text


def test_table_and_plot(tmp_path):
    values = {"a": [1.0, 2.0, 3.0], "b": [2.0, 2.5, 6.0], "c": [None] * 3}
    rows = [*rows_of(values).values()]
    text = tables.markdown(GRID, rows, "python -m experiments.ablate")
    assert "| a | 2.00 (-0.48 to 4.48) | - | 3 |" in text
    assert "| c | - | - | 0 |" in text
    expected = "| b | a | SI-SDRi, dB | +1.50 | -1.79 to +4.79 | +1.50 to +1.50 |"
    assert expected in text
    tables.save_plot(GRID, rows, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert min(picture.size) > 200
        assert np.asarray(picture.convert("L")).std() > 5  # something is drawn


def test_last_values_of_rows():
    rows = [
        {"step": 1, "loss/a": 1.0, "eval/b": 2.0, "stage": "x"},
        {"step": 2, "loss/a": 0.5, "eval/c": None},
    ]
    assert last_values(rows) == {"loss/a": 0.5, "eval/b": 2.0}


@pytest.mark.parametrize("number", [None, math.nan])
def test_what_was_not_measured_is_left_out(number):
    plan, records = make({"a": [1.0] * 3, "b": [1.0] * 3, "c": [1.0] * 3})
    records["scores-a1"]["metrics"]["text/si_sdri_db"] = number
    found = results.values_of(METRICS[0], "a", GRID, plan, records)
    assert sorted(found) == [0, 2]
