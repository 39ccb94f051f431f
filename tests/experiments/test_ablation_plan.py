"""Plans: which runs a grid takes, and which of them are shared."""

import dataclasses
import json
import pathlib

import pytest

from experiments.ablation.grid import Grid, Metric, Stage, Variant, load_grid
from experiments.ablation.plan import SEED_STRIDE, make_groups, make_plan
from experiments.settings import resolve

CONFIG = "experiments/configs/debug.py"
STAGES = (
    Stage("listeners", "align", CONFIG, "supervised"),
    Stage("base", "train", CONFIG, "supervised", start={"encoder": "listeners"}),
    Stage(
        "rl",
        "train",
        CONFIG,
        "policy",
        {"training.num_steps": 5},
        {"encoder": "listeners", "separator": "base"},
    ),
    Stage("scores", "evaluate", CONFIG, "policy", start={"model": "rl"}),
)
METRICS = (Metric("SI-SDRi, dB", "scores", "text/si_sdri_db"),)


def plan_of(*variants, stages=STAGES, seeds=(0, 1), runs="runs"):
    grid = Grid("", stages, variants, variants[0].name, METRICS, seeds)
    return make_plan(grid, pathlib.Path(runs), "data")


def kinds(plan):
    """Return how many tasks there are of every kind."""
    found = [key.partition("-")[0] for key in plan.tasks]
    return {kind: found.count(kind) for kind in found}


def test_what_a_variant_does_not_touch_is_shared():
    plan = plan_of(
        Variant("a"),
        Variant("b", {"rl.clip_eps": 0.1}),
        Variant("c", {"test.mask": "mean"}),
        Variant("d", {"policy.kappa": 9.0}),  # the default: nothing new
    )
    assert kinds(plan) == {"align": 2, "supervised": 2, "policy": 4, "evaluate": 6}
    for seed in (0, 1):
        a, b, c, d = (plan.cells[name, seed] for name in "abcd")
        assert a["base"] == b["base"] == c["base"]
        assert a["rl"] == c["rl"] != b["rl"]
        assert len({a["scores"], b["scores"], c["scores"]}) == 3
        assert a == d
    assert plan.cells["a", 0]["listeners"] != plan.cells["a", 1]["listeners"]


def test_what_a_stage_needs_is_part_of_its_key():
    plan = plan_of(Variant("a"), Variant("b", {"align.learning_rate": 1e-3}))
    a, b = plan.cells["a", 0], plan.cells["b", 0]
    assert not set(a.values()) & set(b.values())
    tasks = plan.tasks
    assert tasks[b["rl"]].needs == (b["listeners"], b["base"])
    assert tasks[b["rl"]].start["separator"] == f"runs/{b['base']}"
    assert list(tasks).index(b["base"]) < list(tasks).index(b["rl"])


def test_overrides_reach_the_stages_that_they_name():
    plan = plan_of(
        Variant("a"),
        Variant("b", {"rl:training.batch_size": 2}),
        Variant("c", {"training.batch_size": 2}),
        Variant("d", {"listeners,rl:encoder.pooling": "mean"}),
    )
    settings = {
        (name, stage): resolve(plan.tasks[plan.cells[name, 0][stage]].settings)
        for name in "abcd"
        for stage in ("listeners", "base", "rl")
    }
    assert settings["b", "rl"].training.batch_size == 2
    assert settings["b", "base"].training.batch_size == 4
    assert settings["c", "base"].training.batch_size == 2
    assert settings["a", "rl"].training.num_steps == 5  # the stage's own
    pooled = [settings["d", s].encoder.pooling for s in ("listeners", "base", "rl")]
    assert pooled == ["mean", "mlbp", "mean"]


def test_stages_of_other_names_share_what_is_equal():
    again = Stage("again", "align", CONFIG, "supervised")
    variants = Variant("a"), Variant("b", {"again:encoder.pooling": "max"})
    plan = plan_of(*variants, stages=(*STAGES, again), seeds=(0,))
    assert plan.cells["a", 0]["again"] == plan.cells["a", 0]["listeners"]
    assert plan.cells["b", 0]["again"] != plan.cells["b", 0]["listeners"]


def test_seeds():
    once = tuple(
        dataclasses.replace(stage, per_seed=stage.name == "rl") for stage in STAGES
    )
    plan = plan_of(Variant("a"), stages=once, seeds=(0, 1, 2))
    assert kinds(plan) == {"align": 1, "supervised": 1, "policy": 3, "evaluate": 3}
    seeds = [plan.tasks[plan.cells["a", s]["rl"]].settings["seed"] for s in range(3)]
    assert [seed - seeds[0] for seed in seeds] == [0, SEED_STRIDE, 2 * SEED_STRIDE]


def test_seeds_in_a_row_may_share_a_run():
    shared = tuple(
        dataclasses.replace(
            stage,
            per_seed=stage.name != "listeners",
            shared_by=2 if stage.name == "base" else 1,
        )
        for stage in STAGES
    )
    plan = plan_of(Variant("a"), stages=shared, seeds=(0, 1, 2, 3))
    assert kinds(plan) == {"align": 1, "supervised": 2, "policy": 4, "evaluate": 4}
    bases = [plan.cells["a", seed]["base"] for seed in range(4)]
    assert bases[0] == bases[1] != bases[2] == bases[3]


def test_a_given_base(tmp_path):
    (tmp_path / "base-0").mkdir()
    given = {"separator": f"{tmp_path}/base-{{seed}}"}
    stages = (Stage("rl", "train", CONFIG, "policy", start=given), STAGES[-1])
    plan = plan_of(Variant("a"), stages=stages, seeds=(0,))
    task = plan.tasks[plan.cells["a", 0]["rl"]]
    assert (task.start, task.needs) == ({"separator": f"{tmp_path}/base-0"}, ())
    with pytest.raises(ValueError, match=r"start.separator is '.*base-1', expected a"):
        plan_of(Variant("a"), stages=stages, seeds=(1,))


def test_keys_do_not_depend_on_where_things_lie(tmp_path):
    variant = Variant("a")
    here, there = plan_of(variant), plan_of(variant, runs=str(tmp_path))
    assert list(here.tasks) == list(there.tasks)
    assert json.loads(json.dumps(here.tasks[next(iter(here.tasks))]._asdict()))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rl.clip": 0.1}, "stage 'rl': rl.clip is unknown, expected a key"),
        ({"rl.clip_eps": "much"}, "rl.clip_eps is 'much', expected a value of the"),
        ({"rl.clip_eps": 3.0}, r"config.rl.clip_eps is 3.0, expected in \(0, 1\)"),
        ({"test.mask": "median"}, "mask is 'median', expected 'mode', 'mean'"),
        ({"test.judges": ("ear",)}, "judges is 'ear', expected some of own, aisfx"),
        ({"test.masks": "mode"}, "unknown key 'masks' for TestConfig"),
        ({"judge_training.lr": 1.0}, "judge_training.lr is unknown"),
        ({"nothing.at_all": 1.0}, "variant 'b' sets 'nothing.at_all', expected a"),
    ],
)
def test_settings_that_cannot_be(overrides, message):
    with pytest.raises(ValueError, match=message):
        plan_of(Variant("a"), Variant("b", overrides))


def test_evaluations_go_with_the_training_of_their_model():
    masks = (Variant(name, {"test.mask": name}) for name in ("mode", "mean"))
    plan = plan_of(*masks, seeds=(0,))
    groups = make_groups(plan.tasks)
    assert [[t.stage for t in g.tasks] for g in groups] == [
        ["listeners"],
        ["base"],
        ["rl", "scores", "scores"],
    ]
    cell = plan.cells["mode", 0]
    assert groups[2].needs == {cell["listeners"], cell["base"]}
    left = {key: task for key, task in plan.tasks.items() if task.stage == "scores"}
    assert [len(group.tasks) for group in make_groups(left)] == [1, 1]


NAMES = (
    "alignment",
    "debug",
    "evidence",
    "policy",
    "pooling",
    "sources",
    "stability",
    "test_mask",
)


@pytest.mark.parametrize("name", NAMES)
def test_grids_that_come_with_the_project(name, tmp_path):
    grid = load_grid(f"experiments/grids/{name}.py")
    plan = make_plan(grid, tmp_path, "data")
    cells = [plan.cells[grid.reference, seed] for seed in grid.seeds]
    assert len({cell["rl"] for cell in cells}) == len(grid.seeds) >= 2
    if name != "debug":
        small = load_grid(f"experiments/grids/{name}.py:small")
        found = make_plan(small, tmp_path, "data")
        assert len(found.tasks) == len(plan.tasks)
        assert not found.tasks.keys() & plan.tasks.keys()
    with pytest.raises(ValueError, match="scale is 'huge'"):
        load_grid(f"experiments/grids/{name}.py:huge")


@pytest.mark.parametrize("scale", ["full", "small"])
def test_a_rewarder_without_a_stage_takes_as_many_steps(scale, tmp_path):
    plan = make_plan(load_grid(f"experiments/grids/evidence.py:{scale}"), tmp_path, "")
    aligned = [t for t in plan.tasks.values() if t.program == "align"]
    steps = [task.settings["align"]["num_steps"] for task in aligned]
    assert sorted(middle > 0 for _, middle, _ in steps) == [False, True]
    assert len({sum(each) for each in steps}) == 1


def test_the_alignment_alone(tmp_path):
    """One task a variant and seed, of equal steps, whatever is left out."""
    grid = load_grid("experiments/grids/alignment.py:encoder")
    names = [variant.name for variant in grid.variants]
    assert names == ["three stages", "one step", "no stage 2", "no mixing"]
    plan = make_plan(grid, tmp_path, "data")
    assert len(plan.tasks) == len(names) * len(grid.seeds)
    steps = {sum(t.settings["align"]["num_steps"]) for t in plan.tasks.values()}
    assert len(steps) == 1
