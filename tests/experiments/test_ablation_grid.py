"""Grids: how variants are made, chosen and checked."""

import dataclasses

import pytest

from experiments.ablation.grid import (
    Grid,
    Metric,
    Stage,
    Variant,
    around,
    load_grid,
    product,
    select,
)

CONFIG = "experiments/configs/debug.py"
STAGES = (
    Stage("base", "train", CONFIG, "supervised"),
    Stage("scores", "evaluate", CONFIG, "policy", start={"model": "base"}),
)
GRID = Grid(
    "A grid",
    STAGES,
    (Variant("a"), Variant("b", {"base:training.num_steps": 3}), Variant("c")),
    "a",
    (Metric("SI-SDRi, dB", "scores", "text/si_sdri_db"),),
)


def test_product_has_every_combination():
    found = product({"policy.noise_patch": ((1, 1), (8, 32)), "rl:rl.group_size": (2,)})
    assert [variant.name for variant in found] == [
        "noise_patch=1x1 group_size=2",
        "noise_patch=8x32 group_size=2",
    ]
    expected = {"policy.noise_patch": (8, 32), "rl:rl.group_size": 2}
    assert found[1].overrides == expected


def test_around_changes_one_setting_each():
    axes = {"rl.clip_eps": (0.1, 0.4), "rl.kl_old_coef": (0.0,)}
    found = around(axes, reference="four", fixed={"rl.inner_epochs": 4})
    assert [v.name for v in found] == [
        "clip_eps=0.1",
        "clip_eps=0.4",
        "kl_old_coef=0.0",
    ]
    assert found[2].overrides == {"rl.inner_epochs": 4, "rl.kl_old_coef": 0.0}
    assert {v.reference for v in found} == {"four"}


def test_select_keeps_what_is_compared_with():
    grid = dataclasses.replace(
        GRID, variants=(*GRID.variants, Variant("d=1", reference="c"), Variant("d=2"))
    )
    assert [v.name for v in select(grid, ["d=1"]).variants] == ["a", "c", "d=1"]
    assert [v.name for v in select(grid, ["d=*"]).variants] == ["a", "c", "d=1", "d=2"]
    assert select(grid, []) is grid
    with pytest.raises(ValueError, match=r"--variants has 'e', expected one of a, b"):
        select(grid, ["e"])


def test_select_keeps_some_seeds():
    grid = dataclasses.replace(GRID, seeds=(0, 5, 10))
    assert select(grid, ["b"], ["10", "0"]).seeds == (0, 10)
    assert select(grid, []).seeds == (0, 5, 10)
    with pytest.raises(ValueError, match=r"--seeds is '1', expected one of 0, 5, 10"):
        select(grid, [], ["5", "1"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": (Variant("a"), Variant("a"))}, r"variants is \['a', 'a'\]"),
        ({"seeds": ()}, r"seeds is \[\], expected one or more, each once"),
        ({"reference": "z"}, "reference is 'z', expected one of a, b, c"),
        ({"variants": (Variant("a", reference="z"),)}, "reference is 'z'"),
        ({"metrics": (Metric("x", "rl", "y"),)}, "stage of a metric is 'rl'"),
        ({"plot": ("judge",)}, "plot is 'judge', expected one of SI-SDRi, dB"),
        ({"variants": (Variant("a", {"rl:rl.reward": "cosine"}),)}, "'rl', expected"),
    ],
)
def test_grids_that_refer_to_nothing(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(GRID, **changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"program": "listen"}, "program is 'listen', expected 'align', 'train' or"),
        ({"program": "align", "start": {"encoder": "a"}}, "one of nothing for align"),
        ({"program": "evaluate"}, "expected a model in it"),
    ],
)
def test_stages_that_cannot_be_run(options, message):
    with pytest.raises(ValueError, match=message):
        Stage("x", config=CONFIG, **options)


def test_files_without_a_grid(tmp_path):
    path = tmp_path / "grid.py"
    for text, message in (
        (None, "expected a Python file"),
        ("a = 1", r"expected get_grid\(scale\) in it"),
        ("def get_grid(scale='full'): return scale", "expected a Grid from its"),
        ("def get_grid(scale='full'): raise ValueError(scale)", r"runs \(huge\)"),
    ):
        if text is not None:
            path.write_text(text)
        with pytest.raises(ValueError, match=f"grid is '{path}', .*{message}"):
            load_grid(f"{path}:huge")
