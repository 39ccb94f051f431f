"""A bundle comes back as it was, or not at all."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax import bundle as bundles
from marssep_jax.bundle import ModelBundle, load_bundle, resolve_bundle, save_bundle

CONFIG = {"frontend": {"hop": 256}, "separator": {"widths": [8, 16]}, "step": 7}


def make_bundle(scale=1.0):
    return ModelBundle(
        config=dict(CONFIG),
        separator_params={"net": {"kernel": scale * jnp.arange(6.0).reshape(2, 3)}},
        model_state={},
        encoder_params={"encoder": {"t": jnp.asarray(0.5)}, "fusion": {}},
        judge_params=None,
    )


def equal(a, b):
    if isinstance(a, ModelBundle):
        assert a.config == b.config
        a, b = a[1:], b[1:]
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_round_trip_without_a_template(tmp_path):
    save_bundle(tmp_path / "model", make_bundle())
    found = load_bundle(tmp_path / "model")
    equal(found, make_bundle())  # empty dicts and None included
    assert sorted(os.listdir(tmp_path)) == ["model"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32", "bool", "uint8"])
def test_dtypes_survive(tmp_path, dtype):
    state = {"x": jnp.asarray([0, 1, 3], dtype), "scalar": jnp.asarray(1, dtype)}
    save_bundle(tmp_path / "m", make_bundle()._replace(model_state=state))
    equal(load_bundle(tmp_path / "m").model_state, state)


def test_half_the_room_and_float32_again(tmp_path):
    rng = np.random.default_rng(0)
    state = {
        "kernel": rng.standard_normal(4_000).astype(np.float32),
        "count": np.asarray([1, 70_000], np.int32),
        "small": jnp.asarray([1.0, 3.0], jnp.bfloat16),
        "none": np.zeros(0, np.float32),
    }
    whole = make_bundle()._replace(model_state=state)
    save_bundle(tmp_path / "m", whole)
    save_bundle(tmp_path / "half", whole, half=True)
    found = load_bundle(tmp_path / "half").model_state
    assert {k: v.dtype for k, v in found.items()} == {
        k: np.asarray(v).dtype for k, v in state.items()
    }
    np.testing.assert_allclose(found["kernel"], state["kernel"], rtol=2**-11, atol=1e-7)
    assert np.any(found["kernel"] != state["kernel"])
    for name in ("count", "small"):
        np.testing.assert_array_equal(found[name], state[name])
    sizes = [(tmp_path / f / bundles.ARRAYS).stat().st_size for f in ("m", "half")]
    assert sizes[0] - sizes[1] == pytest.approx(2 * 4_000, abs=100)


def test_numbers_beyond_half_precision_are_refused(tmp_path):
    large = make_bundle()._replace(model_state={"x": np.asarray([7e4], np.float32)})
    with pytest.raises(ValueError, match="a parameter is 70000, expected at most"):
        save_bundle(tmp_path / "m", large, half=True)
    assert not (tmp_path / "m").exists()


def test_names_of_parameters_may_hold_anything(tmp_path):
    state = {"a/b": {"c.d": jnp.ones(1)}, "a": {"b/c.d": jnp.zeros(2)}}
    save_bundle(tmp_path / "m", make_bundle()._replace(model_state=state))
    equal(load_bundle(tmp_path / "m").model_state, state)


def test_replaces_an_older_bundle(tmp_path):
    save_bundle(tmp_path / "m", make_bundle())
    save_bundle(tmp_path / "m", make_bundle(2.0))
    equal(load_bundle(tmp_path / "m"), make_bundle(2.0))
    assert os.listdir(tmp_path) == ["m"]


def test_leaves_a_foreign_folder_alone(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").write_text("x")
    with pytest.raises(ValueError, match=r"path is .*thesis', expected a new folder"):
        save_bundle(tmp_path / "thesis", make_bundle())
    assert os.listdir(tmp_path / "thesis") == ["a.tex"]


@pytest.mark.parametrize("existing", [False, True])
def test_failure_while_writing_leaves_nothing_half_done(
    tmp_path, monkeypatch, existing
):
    if existing:
        save_bundle(tmp_path / "m", make_bundle())

    def full(path, raw):
        path.write_bytes(raw[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundles, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        save_bundle(tmp_path / "m", make_bundle(2.0))
    assert os.listdir(tmp_path) == (["m"] if existing else [])
    if existing:
        equal(load_bundle(tmp_path / "m"), make_bundle())


def test_refuses_what_is_no_parameter_tree(tmp_path):
    with pytest.raises(ValueError, match="model_state/x is list, expected an array"):
        save_bundle(tmp_path / "m", make_bundle()._replace(model_state={"x": [1]}))
    assert os.listdir(tmp_path) == []


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", ["bundle.json", "parameters.npz"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "gone", "flipped"])
def test_damage_is_told_in_one_line(tmp_path, name, damage):
    save_bundle(tmp_path / "m", make_bundle())
    path = tmp_path / "m" / name
    raw = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "flipped":
        path.write_bytes(raw.replace(b"\x00\x00\x80?", b"\x00\x00\x80>"))  # 1.0 -> 0.25
    else:
        path.write_bytes(raw[: len(raw) // 2] if damage == "cut" else bytes(len(raw)))
    if name == "bundle.json" and damage == "flipped":
        path.write_text(raw.decode().replace('"step"', "step"))
    with pytest.raises(ValueError, match=r"expected the folder of a trained") as error:
        load_bundle(tmp_path / "m")
    assert str(tmp_path / "m") in one_line(error)


def edit(folder, change):
    record = json.loads((folder / "bundle.json").read_text())
    change(record)
    (folder / "bundle.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.update(format="other"), "describes something else"),
        (lambda r: r.update(format_version=9), "format 9, this version reads 1"),
        (lambda r: r["config"].pop("frontend"), "its config has no 'frontend'"),
        (lambda r: r.pop("layout"), "'layout' is missing"),
        (
            lambda r: r["layout"]["separator_params"]["net"]["kernel"].__setitem__(
                2, [3, 2]
            ),
            "separator_params/net/kernel has shape",
        ),
    ],
)
def test_foreign_records(tmp_path, change, reason):
    save_bundle(tmp_path / "m", make_bundle())
    edit(tmp_path / "m", change)
    with pytest.raises(ValueError, match=reason) as error:
        load_bundle(tmp_path / "m")
    one_line(error)


def test_a_bundle_of_other_arrays_does_not_match(tmp_path):
    for name, scale in (("a", 1.0), ("b", 2.0)):
        save_bundle(tmp_path / name, make_bundle(scale))
    shutil.copy(tmp_path / "a" / "parameters.npz", tmp_path / "b" / "parameters.npz")
    with pytest.raises(ValueError, match="damaged"):
        load_bundle(tmp_path / "b")


def test_resolve(tmp_path):
    for name in ("model", "checkpoint"):
        folder = tmp_path / name / name
        save_bundle(folder, make_bundle())
        assert resolve_bundle(folder) == folder
        assert resolve_bundle(tmp_path / name) == folder


def test_resolve_says_what_is_wrong(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    for name, reason in (
        ("run", "its training has not finished"),
        ("none", "no such folder"),
        ("file", "no such folder"),
        (".", "it holds no bundle.json"),
    ):
        with pytest.raises(ValueError, match=reason):
            resolve_bundle(tmp_path / name)
