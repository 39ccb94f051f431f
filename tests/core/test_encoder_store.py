"""A converted encoder comes back as it was, or not at all."""

import json
import os
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from marssep_jax.config import EncoderConfig
from marssep_jax.inspection import describe, render
from marssep_jax.weights import store
from marssep_jax.weights.store import is_encoder, load_encoder, save_encoder

SOURCE = {"name": "a.pth", "size_bytes": 99, "sha256": {"a.pth": "00ff"}}


def make_arrays(scale=1.0):
    return {
        "audio": {
            "kernel": (scale * np.arange(12, dtype=np.float32)).reshape(3, 4).T,
            "bias": np.asarray(jnp.asarray([0.5, 1, scale], jnp.bfloat16)),
        },
        "text": {"table": np.full((5, 2), scale, np.float16)},
        "log_scale": np.asarray(scale, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "ids": np.arange(3),
    }


def save(path, arrays=None, config=None):
    arrays = make_arrays() if arrays is None else arrays
    return save_encoder(path, "toy", config or {"d": 3}, arrays, "CC0-1.0", SOURCE)


def equal(found, tree):
    found, tree = (traverse_util.flatten_dict(t, sep="/") for t in (found, tree))
    assert list(found) == list(tree)
    for name, array in tree.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_round_trip(tmp_path):
    written = save(tmp_path / "toy")
    record, params = load_encoder(tmp_path / "toy", verify=True)
    equal(params, make_arrays())
    assert record == written
    assert record["architecture"] == "toy"
    assert record["config"] == {"d": 3}
    assert record["licence"] == "CC0-1.0"
    assert record["source"] == SOURCE
    assert os.listdir(tmp_path) == ["toy"]
    assert is_encoder(tmp_path / "toy")
    assert not is_encoder(tmp_path)


def test_records_as_config(tmp_path):
    record = save(tmp_path / "toy", config=EncoderConfig(embed_dim=7))
    assert record["config"]["embed_dim"] == 7
    assert record["config"]["audio_widths"] == [32, 64, 96]


def test_arrays_are_mapped_and_aligned(tmp_path):
    save(tmp_path / "toy")
    _, params = load_encoder(tmp_path / "toy")
    for array in (params["audio"]["kernel"], params["text"]["table"]):
        assert not array.flags.owndata
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0
    np.testing.assert_array_equal(
        jnp.asarray(params["audio"]["kernel"]) * 2, make_arrays()["audio"]["kernel"] * 2
    )


def test_any_numpy_opens_the_arrays(tmp_path):
    save(tmp_path / "toy")
    with np.load(tmp_path / "toy" / "parameters.npz", allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays}
    found["audio/bias"] = found["audio/bias"].view(jnp.bfloat16)
    equal(found, traverse_util.flatten_dict(make_arrays(), sep="/"))


def test_arrays_are_written_as_they_come(tmp_path):
    pairs = traverse_util.flatten_dict(make_arrays(), sep="/").items()
    save(tmp_path / "a", iter(pairs))
    save(tmp_path / "b")
    for name in os.listdir(tmp_path / "a"):  # and the same weights make the same file
        raw = (tmp_path / "a" / name).read_bytes()
        assert raw == (tmp_path / "b" / name).read_bytes()


def test_large_arrays_are_written_in_pieces(tmp_path, monkeypatch):
    save(tmp_path / "a")
    monkeypatch.setattr(store, "_BLOCK_BYTES", 1)
    save(tmp_path / "b")
    equal(load_encoder(tmp_path / "b")[1], make_arrays())
    raw = (tmp_path / "a" / "parameters.npz").read_bytes()
    assert raw == (tmp_path / "b" / "parameters.npz").read_bytes()


def test_replaces_an_older_one_and_nothing_else(tmp_path):
    save(tmp_path / "toy")
    save(tmp_path / "toy", make_arrays(2.0))
    equal(load_encoder(tmp_path / "toy")[1], make_arrays(2.0))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("thesis", "file"):
        message = rf"path is .*{name}', expected a new folder or an encoder to replace"
        with pytest.raises(ValueError, match=message):
            save(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "thesis", "toy"]


def failing():
    yield "a", np.ones(3)
    raise KeyboardInterrupt


def full():
    yield "a", np.ones(3)
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    ("arrays", "error"), [(failing, KeyboardInterrupt), (full, OSError)]
)
def test_failure_on_the_way_leaves_nothing(tmp_path, arrays, error, existing):
    if existing:
        save(tmp_path / "toy")
    with pytest.raises(error) as caught:
        save(tmp_path / "toy", arrays())
    if error is OSError:
        expected = f"cannot write {tmp_path / 'toy'} (No space left on device)"
        assert str(caught.value) == expected
    assert os.listdir(tmp_path) == (["toy"] if existing else [])
    if existing:
        equal(load_encoder(tmp_path / "toy")[1], make_arrays())


KILLED = """
import os, signal, sys
import numpy as np
from marssep_jax.weights.store import save_encoder
def arrays():
    yield "a", np.ones(100_000)
    os.kill(os.getpid(), signal.SIGKILL)
save_encoder(sys.argv[1], "toy", {}, arrays(), "CC0", {})
"""


def test_what_a_killed_process_left_is_removed(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "toy")]
    assert subprocess.run(command, check=False).returncode == -9
    assert len(os.listdir(tmp_path)) == 1  # a hidden folder
    foreign = [".toy.1.part", ".toys.99999999.part", ".toy.x.part"]
    for name in foreign:  # of a process that lives, of another name, of no process
        (tmp_path / name).mkdir()
    save(tmp_path / "toy")
    assert sorted(os.listdir(tmp_path)) == sorted([*foreign, "toy"])


def test_killed_between_two_renames(tmp_path):
    save(tmp_path / ".toy.99999999.old")
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "toy", failing())
    equal(load_encoder(tmp_path / "toy")[1], make_arrays())


def refused(folder, reason, **options):
    with pytest.raises(ValueError, match="encoder is ") as caught:
        load_encoder(folder, **options)
    text = str(caught.value)
    assert text.startswith(f"encoder is {str(folder)!r}, expected the folder of a conv")
    assert "\n" not in text
    assert reason in text


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("encoder.json", "gone", "No such file"),
        ("encoder.json", "cut", ""),
        ("encoder.json", "zeros", ""),
        ("parameters.npz", "gone", "No such file"),
        ("parameters.npz", "cut", "it is a zip that is cut short or damaged"),
        ("parameters.npz", "zeros", "it is a zip that is cut short or damaged"),
        ("parameters.npz", "empty", "it is a zip that is cut short or damaged"),
    ],
)
def test_damage_is_told_in_one_line(tmp_path, name, damage, reason):
    save(tmp_path / "toy")
    path = tmp_path / "toy" / name
    raw = path.read_bytes()
    half = len(raw) // 2
    path.unlink()
    if damage != "gone":
        path.write_bytes(
            {"cut": raw[:half], "zeros": bytes(half), "empty": b""}[damage]
        )
    refused(tmp_path / "toy", reason)


def test_a_flipped_bit_is_found_by_checksum(tmp_path):
    save(tmp_path / "toy")
    path = tmp_path / "toy" / "parameters.npz"
    raw = bytearray(path.read_bytes())
    raw[raw.index(np.float32(5).tobytes()) + 3] ^= 1
    path.write_bytes(raw)
    load_encoder(tmp_path / "toy")
    refused(tmp_path / "toy", "audio/kernel has changed", verify=True)


def test_arrays_of_another_encoder(tmp_path):
    save(tmp_path / "a")
    save(tmp_path / "b", make_arrays(2.0))
    shutil.copy(tmp_path / "a" / "parameters.npz", tmp_path / "b" / "parameters.npz")
    refused(tmp_path / "b", "audio/kernel is another array")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.update(format="other"), "describes something else"),
        (lambda r: r.update(format_version=9), "format 9, this version reads 1"),
        (lambda r: r.pop("licence"), "its encoder.json has no 'licence'"),
        (lambda r: r["layout"]["ids"].pop("dtype"), "'dtype' is missing"),
        (lambda r: r["layout"]["ids"].update(dtype="object"), "impossible type"),
        (lambda r: r["layout"]["ids"].update(dtype="nonsense"), "nonsense"),
        (lambda r: r["layout"]["ids"].update(shape=[10**9]), "ids is another array"),
        (lambda r: r["layout"]["ids"].update(shape=[-1]), ""),
        (lambda r: r["layout"].update(y=r["layout"]["ids"]), "'y.npy' is missing"),
        (lambda r: r.update(layout=[]), ""),
    ],
)
def test_foreign_records(tmp_path, change, reason):
    save(tmp_path / "toy")
    path = tmp_path / "toy" / "encoder.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    refused(tmp_path / "toy", reason)


def test_inspection(tmp_path):
    save(tmp_path / "toy", config={"audio": {"width": 3}, "d": [1, 2]})
    report = describe(tmp_path / "toy")
    assert report["architecture"] == "toy"
    counts = {"audio": 15, "text": 10, "log_scale": 1, "empty": 0, "ids": 3}
    assert report["parameters"] == counts
    assert report["dtypes"] == ["bfloat16", "float16", "float32", "int64"]
    files = (tmp_path / "toy").iterdir()
    assert report["size_bytes"] == sum(file.stat().st_size for file in files)
    lines = [line.split(maxsplit=1) for line in render(report).splitlines()]
    rows = dict(lines)
    assert rows["licence"] == "CC0-1.0"
    assert rows["source.name"] == "a.pth"
    assert rows["source.sha256.a.pth"] == "00ff"
    assert rows["audio.width"] == "3"
    assert rows["d"] == "1, 2"
    assert rows["audio"] == "15"
    json.dumps(report)
