"""The timing program: its report, its comparison, and what it does without packages.

Nothing here depends on how long anything took.
"""

import importlib
import json
import sys
from contextlib import nullcontext

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import (
    compare,
    input_pipeline,
    preprocessing,
    rows,
    suites,
    timing,
    updates,
)
from experiments.benchmarks.timing import Timing
from marssep_jax.checkpoint.workdir import write_json

FIELDS = {"name", "ours_s", "reference", "reference_s", "speedup", "runs", "min_max"}
PROMISED = {
    "sampler.beta_vs_jax_random_beta",
    "sampler.beta_vs_uniform",
    "update.supervised_vs_torch",
    "update.supervised_vs_torch_compile",
    "update.supervised_bfloat16_vs_torch",
    "update.supervised_bfloat16_vs_torch_compile",
    "update.rl_g8_vs_supervised",
    "update.rl_g8_vs_torch",
    "update.rl_g8_vs_torch_compile",
    "update.rl_g8_bfloat16_vs_torch",
    "update.rl_g8_bfloat16_vs_torch_compile",
    "separate.full_rtf",
    "separate.small_rtf",
    "metrics.bss_eval_vs_mir_eval",
    "encoder.imagebind_audio_vs_torch",
    "input.wait_share",
    "startup.cli_help",
    "startup.first_step",
}


@pytest.fixture
def without(monkeypatch):
    """Return a function that makes packages look as if they were not installed."""

    def hide(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
        for module in ("torch_steps", "torch_training", "torch_models"):
            monkeypatch.delitem(
                sys.modules, f"experiments.benchmarks.{module}", raising=False
            )

    return hide


def test_jobs_take_turns_and_the_first_call_is_not_timed(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE_S", 0.0)
    calls = []
    jobs = {name: lambda name=name: calls.append(name) for name in "ab"}
    found = timing.alternate(jobs, 3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert [len(times.seconds) for times in found.values()] == [3, 3]
    with pytest.raises(ValueError, match="rounds is 0"):
        timing.alternate(jobs, 0)


def test_a_row_compares_the_best_rounds():
    ours, theirs = Timing((2.0, 4.0, 5.0)), Timing((12.0, 8.0, 40.0))
    row = rows.ratio_row("a", ours, "b", theirs, target=4.0, more=1)
    assert row.keys() >= FIELDS
    assert (row["ours_s"], row["reference_s"], row["speedup"]) == (2.0, 8.0, 4.0)
    # 12/2, 8/4 and 40/5, round by round.
    assert (row["runs"], row["min_max"]) == (3, [2.0, 8.0])
    assert (row["ours_median_s"], row["reference_median_s"]) == (4.0, 12.0)
    assert row["reached"] is True
    assert row["more"] == 1
    assert rows.ratio_row("a", ours, "b", theirs, target=4.1)["reached"] is False
    assert ours.over(4).seconds == (0.5, 1.0, 1.25)


def test_two_sides_must_agree_before_they_are_timed():
    rows.require_same("a", 0.1, 0.1)
    for difference in (0.2, float("nan")):
        with pytest.raises(ValueError, match=r"difference of a is .* dB, expected at"):
            rows.require_same("a", difference, 0.1, " dB")


def test_the_table_names_what_was_not_measured():
    row = rows.ratio_row("a.b", Timing((1.0,)), "c", Timing((3.0,)), target=2.0)
    lines = rows.table([row, rows.not_measured("d", "e is not installed")]).splitlines()
    assert lines[1].split() == [
        *("a.b", "1", "3", "3", "3", "to", "3"),
        *("2", "reached", "c"),
    ]
    assert lines[2] == "d    not measured: e is not installed"


def test_all_promised_rows_have_a_suite():
    names = [
        name
        for module in suites.SUITES.values()
        for name in importlib.import_module(f"experiments.benchmarks.{module}").NAMES
    ]
    assert len(names) == len(set(names))
    assert set(names) >= PROMISED


def test_a_missing_package_is_named_and_our_own_is_an_error():
    def fail(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    found = suites.or_not_measured(("a", "b"), lambda: fail("torch.nn"))
    reason = "torch is not installed"
    assert found == [{"name": name, "not_measured": reason} for name in "ab"]
    with pytest.raises(ModuleNotFoundError):
        suites.or_not_measured(("a",), lambda: fail("experiments.nothing"))


@pytest.mark.slow
def test_the_core_needs_nothing_but_jax(without):
    without("torch", "tensorflow", "librosa", "soundfile", "soxr", "transformers")
    found = [
        row
        for suite in ("update", "separate")
        for row in suites.measure_suite(suite, tiny=True)
    ]
    measured = {row["name"] for row in found if row.keys() >= FIELDS}
    assert measured == {
        "update.rl_g8_vs_supervised",
        "separate.full_rtf",
        "separate.small_rtf",
    }
    reasons = {row["name"]: row.get("not_measured") for row in found}
    for name in set(updates.NAMES) - measured:
        assert reasons[name] == "torch is not installed"


@pytest.mark.parametrize(
    ("suite", "package"),
    [("metrics", "mir_eval"), ("input", "tensorflow"), ("encoder", "torch")],
)
def test_suites_without_their_reference(without, suite, package):
    without(package, f"{package}.separation")
    for row in suites.measure_suite(suite, tiny=True):
        assert row == {
            "name": row["name"],
            "not_measured": f"{package} is not installed",
        }


def test_bss_eval_is_compared_with_mir_eval():
    (row,) = suites.measure_suite("metrics", tiny=True)
    assert row.keys() >= FIELDS
    assert row["largest_difference_db"] < 0.05
    assert "target" not in row  # small sizes say nothing about it


def test_preprocessing_is_compared_where_its_references_are():
    found = suites.measure_suite("preprocess", tiny=True)
    assert [row["name"] for row in found] == list(preprocessing.NAMES)
    for row in found[:2]:  # librosa; the others need PyTorch
        assert row.keys() >= FIELDS
        assert row["largest_difference"] < 1e-5
    for row in found[2:]:
        assert "not_measured" in row or row["largest_difference"] < 1e-3


def test_waits_are_counted_from_the_end_of_the_step_before():
    watch = input_pipeline.Watch()
    update = watch.update(lambda state, batch: (state + batch, {"a": jnp.zeros(())}))
    state = 0
    for batch in watch.batches(iter(range(4))):
        state, _ = update(state, batch)
    assert state == 6
    wall, wait = watch.waits(1)
    assert len(wall) == len(wait) == 3
    assert min(wait) >= 0
    ends = np.array([future.result() for future in watch.ended])
    late = np.array(watch.fetched[1:]) - ends[:-1]
    np.testing.assert_allclose(wait, np.maximum(late, 0))
    np.testing.assert_allclose(wall, np.diff(ends))


def report(**speedups):
    found = [{"name": name, "speedup": value} for name, value in speedups.items()]
    return {"machine": {}, "tiny": False, "rows": found}


def test_what_lost_more_than_15_percent_is_worse():
    before, after = report(a=2.0, b=2.0, c=2.0, d=1.0), report(a=1.69, b=1.71, c=9.0)
    after["rows"].append(rows.not_measured("d", "no reason"))
    changes = compare.changes(before, after)
    assert {change.name: change.is_worse for change in changes} == {
        "a": True,
        "b": False,
        "c": False,
    }
    assert str(changes[0]) == "a: 2 to 1.69 (-16 %)"
    assert compare.uncompared(before, after) == ["d"]


def test_the_guard_is_of_suites_that_are_kept():
    assert suites.expand(["metrics", "quick", "startup"])[0] == "metrics"
    expanded = suites.expand(["quick"])
    assert set(expanded) <= set(suites.SUITES)
    assert len(expanded) == len(set(expanded)) > 1
    kept = compare.load_report(str(suites.KEPT_REPORT), tiny=False)
    assert {row["name"].partition(".")[0] for row in kept["rows"]} >= set(expanded)
    for asked in ([], ["nothing"]):
        with pytest.raises(ValueError, match="expected some of quick, sampler"):
            suites.expand(asked)


@pytest.mark.parametrize(("again", "is_worse"), [(1.9, False), (1.2, True)])
def test_a_suite_that_lost_is_measured_once_more(capsys, again, is_worse):
    asked = []

    def measure(suite):
        asked.append(suite)
        return report(**{"b.x": again, "b.y": 1.0})["rows"]

    before = report(**{"a.x": 1.0, "b.x": 2.0, "b.y": 1.0})
    after = report(**{"a.x": 0.9, "b.x": 1.3, "b.y": 1.5})
    with pytest.raises(ValueError, match=r"b\.x") if is_worse else nullcontext():
        compare.hold_against(before, after, "kept.json", measure)
    assert asked == ["b"]
    told = capsys.readouterr().out
    assert ("worse: b.x: 2 to 1.3 (-35 %)" in told) is is_worse
    assert f"3 speedups compared, {int(is_worse)} worse" in told


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="expected a report"):
        compare.load_report(str(path), tiny=False)
    path.write_text("[]")
    with pytest.raises(ValueError, match="expected a report"):
        compare.load_report(str(path), tiny=False)
    write_json(path, report(a=1.0))
    assert compare.load_report(str(path), tiny=False)["rows"]
    with pytest.raises(ValueError, match="expected a report of the tiny sizes"):
        compare.load_report(str(path), tiny=True)


def test_rows_are_added_to_those_of_the_same_machine():
    now = {"machine": {"cores": 2}, "versions": {"jax": "1"}, "revision": "a"}
    earlier = now | {"rows": [{"name": "update.a"}, {"name": "sampler.b"}]}
    assert compare.kept_rows(earlier, now, ["update"]) == [{"name": "sampler.b"}]
    for key in now:
        with pytest.raises(ValueError, match=f"{key} of the report to add to"):
            compare.kept_rows(earlier, now | {key: "other"}, ["update"])


@pytest.mark.slow
def test_the_program(program, tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    options = ("--suite=sampler", "--tiny")
    outcome = program("experiments.benchmark", *options, f"--json={first}")
    assert outcome.code == 0, outcome.err
    assert "sampler.beta_vs_uniform" in outcome.out
    found = json.loads(first.read_text())
    assert found.keys() >= {"machine", "versions", "rows", "date", "command"}
    assert found["machine"]["cores"] >= 1
    assert found["versions"].keys() >= {"marssep_jax", "jax"}
    assert [row.keys() >= FIELDS for row in found["rows"]] == [True, True]

    # Against a report that nothing can hold up with, and one that all can.
    for factor, code in ((1e6, 1), (1e-6, 0)):
        changed = [
            row | {"speedup": row["speedup"] * factor}
            if row["name"] == "sampler.beta_vs_uniform"
            else row | {"speedup": 1e-6}
            for row in found["rows"]
        ]
        write_json(second, found | {"rows": changed})
        outcome = program("experiments.benchmark", *options, f"--compare={second}")
        assert outcome.code == code, outcome.err
        worse = [line for line in outcome.out.splitlines() if line.startswith("worse")]
        assert len(worse) == code
        assert outcome.err.count("\n") == code
    assert program("experiments.benchmark", "--suite=nothing").code == 1


def test_help_shows_an_example(program):
    outcome = program("experiments.benchmark", "--help")
    assert outcome.code == 0
    assert "python -m experiments.benchmark --json" in outcome.out
