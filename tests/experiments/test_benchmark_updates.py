"""The timed steps: which rows there are, and why some are not measured.

Nothing here depends on how long anything took.
"""

import importlib
import shutil

import jax
import pytest

from experiments.benchmarks import references, rows, suites, updates

FIELDS = {"ours_s", "reference", "reference_s", "speedup", "mixtures"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("tpu", "JAX runs on tpu, PyTorch here on CPU or GPU"),
        ("gpu", "JAX runs on the GPU, and this PyTorch finds none"),
    ],
)
def test_pytorch_is_not_compared_on_another_device(monkeypatch, backend, reason):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    if backend == "gpu":
        torch = pytest.importorskip("torch")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for row in suites.measure_suite("encoder", tiny=True):
        assert row == rows.not_measured(row["name"], reason)
    found = suites.measure_suite("update", tiny=True)
    assert tuple(row["name"] for row in found) == updates.NAMES
    measured = [row["name"] for row in found if row.keys() >= FIELDS]
    assert measured == ["update.rl_g8_vs_supervised"]
    assert {row.get("not_measured", reason) for row in found} == {reason}


def test_sizes_and_targets_by_backend(monkeypatch):
    cpu = {name: updates.target_of(name) for name in updates.NAMES}
    assert {name: target for name, target in cpu.items() if target is not None} == {
        "update.supervised_vs_torch": 1.0,
        "update.rl_g8_vs_supervised": 0.5,
        "update.rl_g8_vs_torch": 5.0,
    }
    assert updates.choose_sizes(False) == updates.FULL
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for name in updates.NAMES:
        expected = 1.2 if name.endswith("_compile") else 2.0
        expected = 0.5 if name == updates.BESIDE else expected
        assert updates.target_of(name) == expected
    assert updates.choose_sizes(False).batch_size > updates.FULL.batch_size
    assert updates.choose_sizes(True) == updates.TINY


def test_bfloat16_waits_for_an_accelerator(monkeypatch):
    monkeypatch.setattr(updates, "FULL", updates.TINY)
    monkeypatch.setattr(references, "torch_device", refuse)
    found = {row["name"]: row for row in updates.measure(tiny=False)}
    for name, row in found.items():
        if "bfloat16" in name:
            reason = "bfloat16 is for accelerators"
        elif name != updates.BESIDE:
            reason = "no reference"
        else:
            assert row["target"] == 0.5
            continue
        assert row == rows.not_measured(name, reason)


def refuse():
    raise rows.NotMeasuredError("no reference")


@pytest.mark.slow
def test_all_steps_are_compared_with_pytorch():
    pytest.importorskip("torch")
    needs_compiler = {name for name in updates.NAMES if name.endswith("_compile")}
    for row in suites.measure_suite("update", tiny=True):
        if row["name"] in needs_compiler and not shutil.which("g++"):
            assert row["not_measured"].startswith("torch.compile fails: ")
            continue
        assert row.keys() >= FIELDS
        assert ("torch.compile" in row["reference"]) == (row["name"] in needs_compiler)
        assert ("bfloat16" in row["reference"]) == ("bfloat16" in row["name"])


@pytest.mark.slow
def test_without_a_compiler_the_compiled_steps_are_not_measured():
    pytest.importorskip("torch")
    config = importlib.import_module("torch._inductor.config")
    utils = importlib.import_module("torch._inductor.utils")
    with utils.fresh_cache(), config.patch({"cpp.cxx": ("no-such-compiler",)}):
        found = suites.measure_suite("update", tiny=True)
    for row in found:
        if row["name"].endswith("_compile"):
            (reason,) = row["not_measured"].splitlines()
            assert reason.startswith("torch.compile fails: No working C++ compiler")
        else:
            assert row.keys() >= FIELDS


def test_values_are_compared_in_full_float32():
    torch = pytest.importorskip("torch")
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [flag.allow_tf32 for flag in flags]
    try:
        with references.full_float32("cuda"):
            assert [flag.allow_tf32 for flag in flags] == [False, False]
            assert jax.config.jax_default_matmul_precision == "highest"
        assert [flag.allow_tf32 for flag in flags] == [True, True]
    finally:
        for flag, allowed in zip(flags, before, strict=True):
            flag.allow_tf32 = allowed
    with references.full_float32("cpu"):
        assert jax.config.jax_default_matmul_precision is None
