"""What compiled programs say, and what the model makes of it."""

import dataclasses
import json

import jax
import pytest

from experiments.scaling import memory, model, programs, report
from experiments.scaling.steps import STEPS, compile_step
from marssep_jax.sharding import make_data_mesh

# Two arrays of 4 KB and 8 KB reduced at once; 16 KB gathered; 32 KB in bfloat16
# scattered, of which each of four devices keeps a quarter; a product is no traffic.
PROGRAM = """
  %a = (f32[1024]{0}, f32[2,1024]{1,0}) all-reduce(%x, %y), replica_groups={{0,1,2,3}}
  %b = (f32[1024]{0}, f32[4096]{0}) all-gather-start(%x), dimensions={0}
  %c = f32[4096]{0} all-gather-done(%b)
  %d = bf16[4096]{0} reduce-scatter(%z), replica_groups=[1,4]<=[4], dimensions={0}
  %e = f32[1024]{0} all-reduce-start(%x), replica_groups=[1,4]<=[4]
  %f = f32[4096]{0} dot(%x, %y)
"""
# A chip of round numbers: a second of operations, half of one of memory traffic.
CHIP = model.Chip("toy", 1 / model.COMPUTE_SHARE, 1.0, 1.0, 10.0, 4, 1.0, 0.0)
FACTS = {
    "flops": 1.0,
    "accessed_bytes": 0.5 * model.MEMORY_SHARE,
    "collectives": {"all-reduce": {"count": 1, "bytes": 4 * model.LINK_SHARE}},
}


def test_collectives_of_a_program():
    assert programs.collectives(PROGRAM) == {
        "all-reduce": {"count": 2, "bytes": 12_288 + 4_096},
        "all-gather": {"count": 1, "bytes": 16_384},
        "reduce-scatter": {"count": 1, "bytes": 32_768},
    }


def test_rings():
    """Twice (n - 1) / n of four bytes, at ten a second in a group, at one beyond."""
    found = model.predict(CHIP, FACTS, rows=3, counts=(1, 4, 8))
    assert [row["step_s"] for row in found] == pytest.approx([1.0, 1.6, 8.0])
    speeds = [row["mixtures_per_s"] for row in found]
    assert speeds == pytest.approx([3.0, 12 / 1.6, 3.0])
    assert found[1]["efficiency"] == pytest.approx(1 / 1.6)
    assert found[1]["talk_share"] == pytest.approx(0.6 / 1.6)


@pytest.fixture(scope="module")
def compiled(quick_compile):
    """Return the supervised step on eight devices, copied and cut."""
    step = dataclasses.replace(STEPS["supervised"], quick=True, rows=1)
    return {
        cut: programs.describe(
            compile_step(dataclasses.replace(step, cut=cut), make_data_mesh())
        )
        for cut in (False, True)
    }


def test_compiled_step(compiled):
    copied, cut = compiled[False], compiled[True]
    assert copied["flops"] > 0
    assert copied["peak_bytes"] > copied["argument_bytes"] > 0
    # Batches are never gathered. What is cut takes less room, and is.
    assert cut["argument_bytes"] < copied["argument_bytes"]
    assert "all-gather" not in copied["collectives"]
    assert cut["collectives"]["all-gather"]["bytes"] > 0


def test_gradients_are_reduced_once(compiled):
    step = dataclasses.replace(STEPS["supervised"], quick=True, rows=1)
    from experiments.scaling.steps import build

    _, state = jax.eval_shape(build(step, 8).init, jax.random.key(0))
    size = sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params))
    sent = compiled[False]["collectives"]["all-reduce"]["bytes"]
    assert size <= sent < 1.5 * size  # and a few statistics


def test_report(compiled):
    row = {"step": "supervised", "topology": "8 cpu", "rows": 1, "group_size": 6}
    point = {"step": "supervised", "layout": "two cores", "devices": 2, "rows": 1}
    measured = {
        "machine": "a machine",
        "versions": {"jax": "1"},
        "points": [
            point | {"layout": "one core", "devices": 1, "seconds": [2.0, 4.0]},
            point | {"seconds": [2.5]},
        ],
    }
    found = {"compiled": [row | compiled[False]], "measured": measured}
    text = report.text(json.loads(json.dumps(found)))
    assert "| supervised | two cores | 2.50 to 2.50 | 0.800 | 1.60 |" in text
    assert text.count("## Predicted: separator, supervised") == len(model.CHIPS)
    assert "| 256 |" in text


def swept(rows, targets, masks, peak):
    sizes = {"rows": rows, "targets": targets, "masks": masks, "device": "cpu"}
    parts = {"argument_bytes": 2**30, "temporary_bytes": 0, "peak_bytes": int(peak)}
    return sizes | parts


def test_slopes_by_hand():
    """A mixture takes 7 MB and 3 for each of its masks, of every target."""
    sizes = [(rows, 2, 8) for rows in (16, 32, 64)]
    sizes += [(32, 3, 8), (32, 4, 8), (32, 2, 2), (32, 2, 16), (32, 2, 0), (64, 2, 0)]
    rows = [swept(b, k, g, 5e9 + 1e6 * b * (7 + 3 * k * g)) for b, k, g in sizes]
    found = {name: value / 1e6 for name, value in memory.slopes(rows).items()}
    expected = {"rows": 55, "targets": 24, "masks": 6, "supervised_rows": 7}
    assert found == pytest.approx(expected)
    sizes = {"versions": {"jax": "1"}, "rows": rows}
    text = report.text({"compiled": [], "measured": None, "memory": sizes})
    assert "| 64 | 2 | supervised | 1.00 | 0.00 | 5.07 |" in text
    assert "A mixture more takes 55 MB: 7 are the supervised step's" in text


@pytest.mark.slow
def test_memory_of_compiled_steps(monkeypatch):
    """A mixture more takes more, and a supervised step less than a policy step."""
    for name, sizes in (("ROWS", (1, 2)), ("TARGETS", (2,)), ("MASKS", (2,))):
        monkeypatch.setattr(memory, name, sizes)
    monkeypatch.setattr(memory, "FIXED", {"rows": 2, "targets": 2, "masks": 2})
    rows = list(memory.sweep(quick=True))
    assert [(row["rows"], row["masks"]) for row in rows] == [
        (1, 2),
        (2, 2),
        (1, 0),
        (2, 0),
    ]
    small, large, small_alone, large_alone = (row["peak_bytes"] for row in rows)
    assert small < large
    assert small_alone < large_alone < large


def test_unknown_step(program, tmp_path):
    argv = ("--compile=flight", f"--json={tmp_path / 'a.json'}")
    outcome = program("experiments.scaling", *argv)
    assert outcome.code == 1
    assert "compile has 'flight', expected some of supervised" in outcome.err
