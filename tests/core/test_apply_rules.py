"""Rules turn published tensors into ours, or say all that does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from marssep_jax.conversion.apply import MismatchError, Misshapen, apply_rules
from marssep_jax.conversion.rules import Rule

RULES = (
    Rule(r"blocks\.(\d+)\.fc\.weight", r"block_\1/dense/kernel", "linear"),
    Rule(r"blocks\.(\d+)\.fc\.bias", r"block_\1/dense/bias"),
    *(
        rule
        for index, name in enumerate("qkv")
        for rule in (
            Rule(rf"{name}\.weight", "qkv/kernel", "linear", (index, 3)),
            Rule(rf"{name}\.bias", "qkv/bias", part=(index, 3)),
        )
    ),
    Rule(r"conv\.weight", "conv/kernel", "conv"),
    Rule(r"cls", "cls", "rows"),
    Rule(r"scale", "scale", "scalar"),
    Rule(r"steps", "steps"),
    Rule(r".*\.mask", ""),
)
EXPECTED_SHAPES = {
    "block_0/dense/kernel": (3, 5),
    "block_0/dense/bias": (5,),
    "block_11/dense/kernel": (3, 5),
    "block_11/dense/bias": (5,),
    "qkv/kernel": (4, 6),
    "qkv/bias": (6,),
    "conv/kernel": (7, 8, 2, 3),
    "cls": (1, 4),
    "scale": (),
}


def expected(**changes):
    flat = EXPECTED_SHAPES | changes
    leaves = {p: jax.ShapeDtypeStruct(s, jnp.float32) for p, s in flat.items()}
    leaves["steps"] = jax.ShapeDtypeStruct((), jnp.int32)
    return traverse_util.unflatten_dict(leaves, sep="/")


@pytest.fixture
def source():
    """Return published tensors, each of numbers of its own."""
    shapes = {
        "blocks.0.fc.weight": (5, 3),
        "blocks.0.fc.bias": (5,),
        "blocks.11.fc.weight": (5, 3),
        "blocks.11.fc.bias": (5,),
        "conv.weight": (3, 2, 7, 8),
        "cls": (1, 1, 4),
        "scale": (1,),
        "a.mask": (2, 2),
    }
    shapes |= {f"{n}.weight": (2, 4) for n in "kvq"} | {f"{n}.bias": (2,) for n in "vq"}
    generator = np.random.default_rng(0)
    found = {k: generator.standard_normal(s, np.float32) for k, s in shapes.items()}
    return found | {"k.bias": np.ones(2, np.float32), "steps": np.asarray(3)}


def test_layouts(source):
    converted = apply_rules(RULES, source, expected())
    tree = converted.tree()
    kernel = tree["block_11"]["dense"]["kernel"]
    np.testing.assert_array_equal(kernel, source["blocks.11.fc.weight"].T)
    packed = [source[f"{name}.weight"].T for name in "qkv"]
    np.testing.assert_array_equal(tree["qkv"]["kernel"], np.concatenate(packed, 1))
    packed = [source[f"{name}.bias"] for name in "qkv"]
    np.testing.assert_array_equal(tree["qkv"]["bias"], np.concatenate(packed))
    published = source["conv.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(tree["conv"]["kernel"], published)
    np.testing.assert_array_equal(tree["cls"], source["cls"][0])
    assert tree["scale"].shape == ()
    assert tree["scale"] == source["scale"][0]
    assert tree["steps"] == 3
    shapes = {p: a.shape for p, a in traverse_util.flatten_dict(tree, sep="/").items()}
    assert shapes == EXPECTED_SHAPES | {"steps": ()}
    assert converted.report.fits
    assert converted.report.num_converted == 10
    assert converted.report.dropped == ("a.mask",)
    assert converted.num_bytes == sum(a.nbytes for _, a in converted.arrays())


def test_what_needs_no_work_is_a_view(source):
    arrays = dict(apply_rules(RULES, source, expected()).arrays())
    assert np.shares_memory(arrays["conv/kernel"], source["conv.weight"])
    assert not np.shares_memory(arrays["qkv/kernel"], source["q.weight"])


@pytest.mark.parametrize("published", ["float16", "float64", "bfloat16"])
@pytest.mark.parametrize("wanted", [None, "bfloat16"])
def test_types(source, published, wanted):
    state = {
        key: value.astype(jnp.dtype(published)) if value.dtype.kind == "f" else value
        for key, value in source.items()
    }
    found = dict(apply_rules(RULES, state, expected(), wanted).arrays())
    assert {str(array.dtype) for path, array in found.items() if path != "steps"} == {
        wanted or "float32"
    }
    assert found["steps"].dtype == np.int32
    direct = state["blocks.0.fc.weight"].T.astype(found["qkv/kernel"].dtype)
    np.testing.assert_array_equal(found["block_0/dense/kernel"], direct)


def test_large_parameters_are_joined_in_pieces(source, monkeypatch):
    whole = dict(apply_rules(RULES, source, expected(), "bfloat16").arrays())
    monkeypatch.setattr("marssep_jax.conversion.apply.BLOCK_BYTES", 1)
    pieces = dict(apply_rules(RULES, source, expected(), "bfloat16").arrays())
    for path, array in whole.items():
        np.testing.assert_array_equal(pieces[path], array)


def report_of(source, tree):
    with pytest.raises(MismatchError) as caught:
        apply_rules(RULES, source, tree)
    assert "\n" not in str(caught.value)
    assert str(caught.value) == caught.value.report.summary()
    return caught.value.report


def test_all_misfits_are_listed(source):
    for key in ("blocks.0.fc.bias", "k.weight", "conv.weight"):
        del source[key]
    source |= {f"extra.{i}": np.ones(1) for i in range(5)}
    source["blocks.7.fc.bias"] = np.ones(5)  # of a block that is not there
    source["cls"] = np.ones((1, 1, 5), np.float32)
    source["v.bias"] = np.ones(3, np.float32)
    source["scale"] = np.asarray([1])
    report = report_of(source, expected())
    assert report.missing == (
        "block_0/dense/bias",
        "qkv/kernel (part 2 of 3)",
        "conv/kernel",
    )
    assert report.extra == ("blocks.7.fc.bias", *(f"extra.{i}" for i in range(5)))
    assert report.misshapen == (
        Misshapen("v.bias", "qkv/bias", "float32 [3]", "float32 [2] of qkv/bias"),
        Misshapen("cls", "cls", "float32 [1, 1, 5]", "float32 [1, 4] of cls"),
        Misshapen("scale", "scale", "int64 [1]", "float32 [] of scale"),
    )
    assert report.summary() == (
        "4 of 10 parameters found; "
        "3 missing: block_0/dense/bias, qkv/kernel (part 2 of 3), conv/kernel; "
        "3 of another shape: v.bias is float32 [3], not float32 [2] of qkv/bias, "
        "cls is float32 [1, 1, 5], not float32 [1, 4] of cls, "
        "scale is int64 [1], not float32 [] of scale; "
        "6 unknown: blocks.7.fc.bias, extra.0, extra.1, ..."
    )
    assert report.as_dict()["misshapen"][1]["key"] == "cls"


def test_ranks_that_no_transform_takes(source):
    source["conv.weight"] = np.ones(3, np.float32)
    source["scale"] = np.ones((2, 3), np.float32)
    source["blocks.0.fc.weight"] = np.ones((5, 3, 1), np.float32)
    keys = [misshapen.key for misshapen in report_of(source, expected()).misshapen]
    assert keys == ["blocks.0.fc.weight", "conv.weight", "scale"]


def test_nothing_is_read_to_find_misfits(source):
    class Untouchable(np.ndarray):
        def __array_function__(self, *_):
            raise AssertionError("read")

    source["q.weight"] = source["q.weight"].view(Untouchable)
    converted = apply_rules(RULES, source, expected())
    with pytest.raises(AssertionError, match="read"):
        list(converted.arrays())


def test_rules_that_contradict_each_other(source):
    double = (*RULES, Rule(r"cls|other", "other"))
    message = r"key is 'cls', expected one rule for it, not 'cls' and 'cls\|other'"
    with pytest.raises(RuntimeError, match=message):
        apply_rules(double, source, expected())
    source["other"] = source["cls"]
    double = (*RULES, Rule("other", "cls"))
    message = "target is 'cls', expected one source, not 'cls' and 'other'"
    with pytest.raises(RuntimeError, match=message):
        apply_rules(double, source, expected())
