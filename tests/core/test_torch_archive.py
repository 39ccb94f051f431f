"""PyTorch's files are read without PyTorch, and no further than they reach."""

import collections
import os
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marssep_jax.conversion.sources import open_source
from marssep_jax.conversion.torch_archive import open_torch
from tests.support.torch_zip import (
    Call,
    Ordered,
    Parameter,
    Storage,
    Strided,
    in_memory,
    pickled,
    write_pickle,
    write_torch,
    write_zip,
)

EXPECTED = "expected weights as PyTorch (.pth, .pt, .bin) or safetensors files"
MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def opened(path, value, **options):
    return open_torch(write_torch(path / "a.pth", value), **options)


def refused(path, *parts, **options):
    """Check that a file is refused in one line, by the function that users call."""
    with pytest.raises(ValueError, match="source is ") as caught:
        open_source(path, **options)
    text = str(caught.value)
    assert text.startswith(f"source is {str(path)!r}, {EXPECTED} (")
    assert "\n" not in text
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    "dtype",
    ["float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"],
)
def test_every_type(tmp_path, dtype):
    array = np.asarray(jnp.asarray([[0, 1], [1, 0]])).astype(jnp.dtype(dtype))
    found = opened(tmp_path, {"a": array})["a"]
    assert found.dtype == jnp.dtype(dtype)
    np.testing.assert_array_equal(found, array)


def test_state_dict_of_a_module(tmp_path):
    state = Ordered({"w": Parameter(MATRIX), "n": np.asarray(7), "e": np.zeros((0, 3))})
    found = opened(tmp_path, state)
    assert list(found) == ["w", "n", "e"]  # in the order of the file
    np.testing.assert_array_equal(found["w"], MATRIX)
    assert found["n"].shape == ()
    assert found["n"] == 7
    assert found["e"].shape == (0, 3)


def test_views_of_one_storage(tmp_path):
    storage = Storage("shared", np.arange(12, dtype=np.float32))
    found = opened(
        tmp_path,
        {
            "all": Strided(storage, 0, (3, 4), (4, 1)),
            "transposed": Strided(storage, 0, (4, 3), (1, 4)),
            "part": Strided(storage, 5, (2, 2), (4, 2)),
            "repeated": Strided(storage, 3, (5, 2), (0, 1)),
            "scalar": Strided(storage, 11, (), ()),
        },
    )
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(found["all"], whole)
    np.testing.assert_array_equal(found["transposed"], whole.T)
    np.testing.assert_array_equal(found["part"], [[5, 7], [9, 11]])
    np.testing.assert_array_equal(found["repeated"], np.tile([3.0, 4.0], (5, 1)))
    assert found["scalar"] == 11


def test_nothing_is_copied_before_its_time(tmp_path):
    path = write_torch(tmp_path / "a.pth", {"a": MATRIX})
    found = open_torch(path)["a"]
    assert not found.flags.owndata
    assert not found.flags.writeable
    with open(path, "r+b") as file:  # the view sees the file, not a copy of it
        raw = file.read()
        file.seek(raw.index(MATRIX.tobytes()))
        file.write(np.full(6, 9, np.float32).tobytes())
    np.testing.assert_array_equal(found, np.full((2, 3), 9))


def test_release_leaves_views_valid(tmp_path):
    source = opened(tmp_path, {"a": MATRIX})
    found = source["a"]
    source.release()
    np.testing.assert_array_equal(found, MATRIX)


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"a": {"b": {"c": MATRIX}}, "d": MATRIX}, ["a.b.c", "d"]),
        ({"state_dict": {"a": MATRIX}, "epoch": 3, "lr": 0.1}, ["a"]),
        ({"model": Ordered({"a": MATRIX}), "optim": {"b": MATRIX}}, ["a"]),
        ({"model_state_dict": {"model": {"a": MATRIX}}}, ["a"]),
        ({"model": MATRIX, "a": MATRIX}, ["model", "a"]),
        ({"module.a": MATRIX, "module.b": MATRIX}, ["a", "b"]),
        ({"module.a": MATRIX, "b": MATRIX}, ["module.a", "b"]),
        ({"state_dict": {"module.a.b": MATRIX}}, ["a.b"]),
        ({0: {"a": MATRIX}, "l": [MATRIX], "t": (1, None, True)}, ["0.a"]),
    ],
)
def test_names(tmp_path, tree, names):
    assert list(opened(tmp_path, tree)) == names


def test_numbers_of_numpy_are_passed_over(tmp_path):
    dtype = Call("numpy", "dtype", ("f8", False, True))
    raw = Call("_codecs", "encode", ("12345678", "latin1"))
    best = Call("numpy.core.multiarray", "scalar", (dtype, raw))
    assert list(opened(tmp_path, {"best": best, "a": MATRIX})) == ["a"]


@pytest.mark.parametrize("root", ["archive/", "best model/", ""])
def test_any_root(tmp_path, root):
    path = write_torch(tmp_path / "a.pth", {"a": MATRIX}, root=root)
    np.testing.assert_array_equal(open_torch(path)["a"], MATRIX)


def test_a_class_is_refused_by_name_and_never_imported(tmp_path):
    tree = {"a": MATRIX, "args": Call("argparse", "Namespace")}
    path = write_torch(tmp_path / "a.pth", tree)
    refused(path, "it holds 'argparse.Namespace', which is no part of a tensor")
    found = open_torch(path, placeholders=True)
    assert list(found) == ["a"]


@pytest.mark.parametrize("placeholders", [False, True])
@pytest.mark.parametrize("module", ["os", "posix", "builtins"])
def test_code_is_not_run(tmp_path, module, placeholders):
    mark = tmp_path / "mark"
    name = "exec" if module == "builtins" else "system"
    argument = f"open({str(mark)!r}, 'w')" if name == "exec" else f"touch {mark}"
    tree = {"a": MATRIX, "b": Call(module, name, (argument,))}
    path = write_torch(tmp_path / "a.pth", tree)
    if placeholders:
        assert list(open_torch(path, placeholders=True)) == ["a"]
    else:
        refused(path, f"it holds '{module}.{name}', which is no part of a tensor")
    assert not mark.exists()


def test_pickles_of_pythons_own(tmp_path):
    """Newer opcodes, as `pickle_protocol` chooses them; and code among them."""

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'mark'}",)

    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        harmless = {"a": [1, 2.5, "x", b"y", None, True, {3}, frozenset({4})], 5: 2**70}
        state = collections.OrderedDict(harmless)
        path = write_pickle(tmp_path / "a.pth", pickle.dumps(state, protocol))
        refused(path, "it holds no tensors", placeholders=True)
        path = write_pickle(tmp_path / "a.pth", pickle.dumps(Evil(), protocol))
        refused(path, "it holds 'posix.system'")
    assert not (tmp_path / "mark").exists()


def test_old_opcodes_are_refused(tmp_path):
    path = write_pickle(tmp_path / "a.pth", b"(cos\nsystem\nS'true'\no.")
    refused(path, "it holds 'os.system'")
    path = write_pickle(tmp_path / "a.pth", b"(ios\nsystem\n.")
    refused(path, "its pickle uses INST, which no checkpoint needs")
    path = write_pickle(tmp_path / "a.pth", b"S'\\o'\n.")
    refused(path, "its pickle uses STRING, which no checkpoint needs")


HOSTILE = {
    "beyond the end": Strided(Storage("0", MATRIX.reshape(-1)), 0, (7,), (1,)),
    "offset": Strided(Storage("0", MATRIX.reshape(-1)), 6, (1,), (1,)),
    "negative offset": Strided(Storage("0", MATRIX.reshape(-1)), -1, (1,), (1,)),
    "stride": Strided(Storage("0", MATRIX.reshape(-1)), 0, (2, 3), (4, 1)),
    "negative stride": Strided(Storage("0", MATRIX.reshape(-1)), 5, (6,), (-1,)),
    "negative size": Strided(Storage("0", MATRIX.reshape(-1)), 0, (-2, -3), (3, 1)),
    "huge": Strided(Storage("0", MATRIX.reshape(-1)), 0, (2**62, 4), (1, 1)),
    "repeated": Strided(Storage("0", MATRIX.reshape(-1)), 0, (2**40,), (0,)),
    "ranks": Strided(Storage("0", MATRIX.reshape(-1)), 0, (2, 3), (1,)),
    "rank": Strided(Storage("0", MATRIX.reshape(-1)), 0, (1,) * 99, (1,) * 99),
    "text": Strided(Storage("0", MATRIX.reshape(-1)), 0, ("2",), (1,)),
    "truth": Strided(Storage("0", MATRIX.reshape(-1)), 0, (2,), (1.0,)),
    "claim": Strided(Storage("0", MATRIX.reshape(-1), 600), 0, (600,), (1,)),
    "small claim": Strided(Storage("0", MATRIX.reshape(-1), 3), 0, (2,), (1,)),
}


@pytest.mark.parametrize("tensor", HOSTILE.values(), ids=HOSTILE)
def test_nothing_outside_a_storage_is_read(tmp_path, tensor):
    refused(write_torch(tmp_path / "a.pth", {"a": tensor}), "(it")


def test_a_storage_that_is_missing(tmp_path):
    path = write_torch(tmp_path / "a.pth", {"a": MATRIX}, root="x/")
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist() if n != "x/data/0"}
    refused(write_zip(path, members), "its storage '0' is missing")


def test_a_storage_that_is_short(tmp_path):
    path = tmp_path / "a.pth"
    write_torch(path, {"a": MATRIX}, members={"archive/data/0": bytes(20)})
    refused(path, "its storage '0' has 20 bytes, not 24")


def test_every_truncation_is_refused(tmp_path):
    raw = in_memory({"a": MATRIX})
    path = tmp_path / "a.pth"
    for length in range(0, len(raw), 37):
        path.write_bytes(raw[:length])
        refused(path)
    path.write_bytes(raw[: len(raw) // 2])
    refused(path, "it is a zip that is cut short or damaged")


def test_other_zips(tmp_path):
    path = tmp_path / "a.pth"
    refused(write_zip(path, {"word/document.xml": b"<x/>"}), "without a checkpoint")
    refused(write_zip(path, {"a/data.pkl": b"", "a/constants.pkl": b""}), "TorchScript")
    refused(write_zip(path, {"a/data.pkl": b"", "b/data.pkl": b""}), "without a check")
    code = pickled({"a": 1})
    refused(write_zip(path, {"a/data.pkl": code}, zipfile.ZIP_DEFLATED), "is compress")
    write_torch(path, {"a": MATRIX}, byteorder=b"big")
    refused(path, "its byte order is b'big', not little")
    refused(write_torch(path, {"a": 1, "b": [MATRIX]}), "it holds no tensors")
    refused(write_torch(path, [MATRIX]), "it holds no dict of tensors")
    refused(write_torch(path, {"a.b": MATRIX, "a": {"b": MATRIX}}), "two tensors are")


def test_pickles_without_end(tmp_path):
    path = tmp_path / "a.pth"
    # {"a": itself}; a tree of 2^40 leaves; a dict in a dict a thousand times.
    refused(write_pickle(path, b"}q\0X\1\0\0\0ah\0s."), "nested without end")
    twice = b"q%c0}X\1\0\0\0ah%csX\1\0\0\0bh%cs"
    doubled = b"".join(twice % (i, i, i) for i in range(12))
    refused(write_pickle(path, b"}" + doubled + b"."), "it holds no tensors")
    doubled = b"".join(twice % (i, i, i) for i in range(40))
    refused(write_pickle(path, b"}" + doubled + b"."), "nested without end")
    deep = b"X\1\0\0\0a}" * 1_000 + b"s" * 1_000
    refused(write_pickle(path, b"}" + deep + b"."), "nested without end")
    long_name = {"x" * 2_000: MATRIX}
    refused(write_torch(path, long_name), "nested without end")
    refused(write_pickle(path, b"N" * (1 << 25) + b"."), "its pickle has 33554433 byte")


# Opcodes that jump, count or allocate, out of their place.
@pytest.mark.parametrize(
    "code",
    [
        b"",
        b".",
        b"N",
        b"NN.",
        b"R.",
        b"t.",
        b"h\5.",
        b"r\xff\xff\xff\xff.",
        b"}X\xff\xff\xff\xffa.",
        b"X\1\0\0\0aQ.",
        b"\x8b\xff\xff\xff\x7f\1.",
        b"}(X\1\0\0\0au.",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"ctorch\nFloatStorage\n)R.",
        b"\xff.",
    ],
)
def test_damaged_pickles(tmp_path, code):
    refused(write_pickle(tmp_path / "a.pth", code), "its pickle is damaged")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=3))
def test_a_changed_byte_never_does_harm(tmp_path_factory, place, patch):
    """A checkpoint is read or refused in one line, whatever byte of it is changed."""
    raw = bytearray(in_memory({"w": Parameter(MATRIX), "b": np.ones(2, np.float16)}))
    place %= len(raw)
    raw[place : place + len(patch)] = patch
    path = tmp_path_factory.mktemp("changed") / "a.pth"
    path.write_bytes(raw)
    error, tensors = "", []
    try:
        tensors = [np.array(tensor) for tensor in open_source(path).values()]
    except ValueError as caught:
        error = str(caught)
    assert tensors or error.startswith("source is ")
    assert all(tensor.size <= 6 for tensor in tensors)
