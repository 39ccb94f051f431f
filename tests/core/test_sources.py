"""Weights are known by what is in a file, and what is wrong is told in one line."""

import hashlib
import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from marssep_jax.conversion.sources import open_source
from tests.support.torch_zip import write_torch

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def refused(path, *parts):
    with pytest.raises(ValueError, match="source is ") as caught:
        open_source(path)
    text = str(caught.value)
    assert text.startswith(
        f"source is {str(path)!r}, expected weights as PyTorch (.pth"
    )
    assert "\n" not in text
    for part in parts:
        assert part in text


def write_shards(folder, suffix=".safetensors"):
    """Write three tensors in two files and their index."""
    tensors = {"a": MATRIX, "b": MATRIX + 1, "c": np.ones(4, np.float32)}
    places = {"a": f"one{suffix}", "b": f"two{suffix}", "c": f"one{suffix}"}
    for file in set(places.values()):
        part = {key: tensors[key] for key, place in places.items() if place == file}
        if suffix == ".bin":
            write_torch(folder / file, part)
        else:
            save_file(part, folder / file)
    base = "pytorch_model" if suffix == ".bin" else "model"
    index = folder / f"{base}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}, indent=2))
    return index, tensors


def equal(source, tensors):
    assert set(source) == set(tensors)
    for key, tensor in tensors.items():
        assert source[key].dtype == tensor.dtype
        np.testing.assert_array_equal(source[key], tensor)


def test_safetensors(tmp_path):
    tensors = {
        "f": MATRIX,
        "half": MATRIX.astype(np.float16),
        "brain": np.asarray(jnp.asarray(MATRIX, jnp.bfloat16)),
        "small": np.asarray(jnp.asarray(MATRIX, jnp.float8_e4m3fn)),
        "ids": np.arange(5)[None],
        "flag": np.array([True, False]),
        "scalar": np.asarray(2.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
    }
    save_file(tensors, tmp_path / "model.bin", metadata={"format": "pt"})
    source = open_source(tmp_path / "model.bin")  # whatever it is called
    equal(source, tensors)
    assert not source["f"].flags.owndata
    source.release()
    equal(source, tensors)


def test_prefix_of_data_parallel_training(tmp_path):
    save_file({"module.a": MATRIX, "module.b": MATRIX}, tmp_path / "a.safetensors")
    assert set(open_source(tmp_path / "a.safetensors")) == {"a", "b"}


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_shards(tmp_path, suffix):
    index, tensors = write_shards(tmp_path, suffix)
    equal(open_source(index), tensors)
    source = open_source(tmp_path)
    equal(source, tensors)
    origin = source.provenance()
    assert origin["name"] == tmp_path.name
    assert set(origin["sha256"]) == {index.name, f"one{suffix}", f"two{suffix}"}
    assert origin["size_bytes"] == sum(p.stat().st_size for p in tmp_path.iterdir())


def test_provenance_of_a_file(tmp_path):
    path = tmp_path / "a.pth"
    write_torch(path, {"a": MATRIX})
    heard = []
    origin = open_source(path).provenance(heard.append)
    assert sum(heard) == origin["size_bytes"] == path.stat().st_size
    assert origin["name"] == "a.pth"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert origin["sha256"] == {"a.pth": digest}


def test_folders(tmp_path):
    write_torch(tmp_path / "best.pth", {"a": MATRIX})
    assert set(open_source(tmp_path)) == {"a"}
    write_torch(tmp_path / "last.pth", {"b": MATRIX})
    refused(tmp_path, "should hold one file of weights, found best.pth, last.pth")
    write_torch(tmp_path / "pytorch_model.bin", {"c": MATRIX})
    save_file({"d": MATRIX}, tmp_path / "model.safetensors")
    assert set(open_source(tmp_path)) == {"d"}
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "should hold one file of weights, found none")


def test_settings_beside_the_weights(tmp_path):
    path = write_torch(tmp_path / "a.pth", {"a": MATRIX})
    assert open_source(path).settings() == {}
    (tmp_path / "config.json").write_text('{"width": 3}')
    for source in (path, tmp_path):
        assert open_source(source).settings() == {"width": 3}
    for text in ("[1]", '{"width', "\xff"):
        (tmp_path / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(ValueError, match=r"expected .* config\.json"):
            open_source(path).settings()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"I am text.\n" * 99, "it is neither a zip nor safetensors"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch before 1.6"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html>\n<html>", "it is a web page"),
        (b"\x10" + bytes(7) + b"{ no header   }  ", "it is cut short or damaged"),
        (b"{}", "its index has no weight_map"),
        (b'{"weight_map": 3}', "its index has no weight_map"),
        (b'{"weight_map": {"a": 3}}', "its index has no weight_map"),
        (b'{"weight_map": {}}', "it holds no tensors"),
        (b'{"weight_map": {"a": "../b.bin"}}', "'../b.bin', which is no plain file na"),
        (b'{"weight_map": {"a": "/etc/passwd"}}', "'/etc/passwd', which is no plain"),
        (b'{"weight_map": {"a": "none.bin"}}', "No such file or directory"),
        (b'{"weight_map": {"a": "a.bin"}}', "it is neither a zip nor safetensors"),
    ],
)
def test_other_files(tmp_path, content, reason):
    (tmp_path / "a.bin").write_bytes(content)
    refused(tmp_path / "a.bin", reason)


def test_no_file(tmp_path):
    refused(tmp_path / "none.pth", "No such file or directory")


def test_every_truncation_of_safetensors_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": MATRIX}, path)
    raw = path.read_bytes()
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        refused(path)
    path.write_bytes(raw[:-1])
    refused(path, "it is cut short or damaged")


def test_types_that_are_not_read(tmp_path):
    header = b'{"a":{"dtype":"F8_E8M0","shape":[2],"data_offsets":[0,2]}}'
    raw = len(header).to_bytes(8, "little") + header + b"\0\0"
    (tmp_path / "a.safetensors").write_bytes(raw)
    refused(tmp_path / "a.safetensors", "it holds tensors of type F8_E8M0")


def test_a_shard_that_lacks_what_the_index_says(tmp_path):
    index, _ = write_shards(tmp_path)
    places = json.loads(index.read_text())
    places["weight_map"]["d"] = "one.safetensors"
    index.write_text(json.dumps(places))
    refused(index, "'d' is not in 'one.safetensors'")
