"""TensorFlow's checkpoints, read without it, well formed or not."""

import numpy as np
import pytest

from marssep_jax.conversion.sorted_table import (
    FOOTER_BYTES,
    TRAILER_BYTES,
    Fields,
    masked_crc32c,
)
from marssep_jax.conversion.tensor_bundle import open_bundle
from tests.support.bundle_file import entry, field, table, varint, write_bundle


def tensors():
    draw = np.random.default_rng(0)
    return {
        "dense/kernel": draw.standard_normal((5, 3)).astype(np.float32),
        "dense/bias": draw.standard_normal(3).astype(np.float32),
        "dense_1/bias": draw.standard_normal(2),
        "conv2d/kernel": draw.standard_normal((7, 3, 1, 4)).astype(np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "on": np.array([True, False, True]),
        "step": np.array(300, np.int64),
    }


@pytest.mark.parametrize("rows_per_block", [1, 3, 100])
@pytest.mark.parametrize("name", ["model.index", ".index"])
def test_what_was_written_is_read(tmp_path, name, rows_per_block):
    index = write_bundle(tmp_path / name, tensors(), rows_per_block=rows_per_block)
    source = open_bundle(index)
    assert set(source) == set(tensors())
    for key, value in tensors().items():
        assert source[key].dtype == value.dtype
        np.testing.assert_array_equal(source[key], value)
    assert len(source.provenance()["sha256"]) == 2


def test_checksum_is_castagnolis():
    # The check value of CRC-32C in the catalogues, masked as LevelDB does.
    crc = 0xE3069283
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked_crc32c(b"123456789") == masked


def test_tensors_of_strings_are_passed_over(tmp_path):
    some = {"graph": np.zeros(2, np.int64), "kernel": np.ones(2, np.float32)}
    index = write_bundle(tmp_path / "a.index", some, changes={"graph": {"f1": 7}})
    assert list(open_bundle(index)) == ["kernel"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"f1": 99}, "tensor 'step' is of type 99"),
        ({"f3": 4}, "tensor 'step' is in data file 4"),
        ({"f4": 1 << 40}, "cut short: its data reach beyond its end"),
        ({"f5": 9}, "tensor 'step' has 9 bytes, not 8"),
        ({"f7": b"x"}, "tensor 'step' is stored in slices"),
        ({"f2": field(2, field(1, 1 << 40))}, "lies outside its storage"),
        ({"f2": field(2, field(1, (1 << 63) - 1))}, "impossible type, shape"),
    ],
)
def test_records_that_do_not_fit(tmp_path, changes, message):
    some = {"step": np.array(300, np.int64), "zeros": np.zeros(1, np.int64)}
    index = write_bundle(tmp_path / "a.index", some, changes={"step": changes})
    with pytest.raises(ValueError, match=message):
        open_bundle(index)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (field(1, 1) + field(2, 1), "big-endian"),
        (b"", "it has 0 data files"),
        (field(1, 1_000_000), "it has 1000000 data files"),
        (varint(8 + 3), "field of kind 3"),
        (varint(8) + b"\xff" * 12, "has no end"),
        (varint(10) + varint(50), "cut short"),
    ],
)
def test_a_whole_that_does_not_fit(tmp_path, header, message):
    index = write_bundle(tmp_path / "a.index", tensors(), header=header)
    with pytest.raises(ValueError, match=message):
        open_bundle(index)


def test_every_cut_and_every_flipped_byte_is_told(tmp_path):
    whole = write_bundle(tmp_path / "a.index", tensors()).read_bytes()
    path = tmp_path / "a.index"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            open_bundle(path)
    footer = Fields(whole[-FOOTER_BYTES:-8])
    start, size = footer.varint(), footer.varint()
    unread = range(start, start + size + TRAILER_BYTES)  # the empty meta index
    for at in set(range(len(whole) - FOOTER_BYTES)) - set(unread):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            open_bundle(path)


def test_other_tables(tmp_path):
    path = tmp_path / "a.index"
    row = (b"step", entry(np.zeros(1), 0))
    path.write_bytes(table([[row]]))
    with pytest.raises(ValueError, match="without a bundle in it"):
        open_bundle(path)
    path.write_bytes(table([[(b"", field(1, 1)), row]], kind=1))
    with pytest.raises(ValueError, match=r"compressed \(kind 1\)"):
        open_bundle(path)
    write_bundle(path, tensors())
    path.with_name("a.data-00000-of-00001").unlink()
    with pytest.raises(FileNotFoundError):
        open_bundle(path)
    with pytest.raises(ValueError, match=r"does not end in \.index"):
        open_bundle(tmp_path / "a.data")


@pytest.mark.slow
def test_tensorflow_writes_and_reads_the_same(tmp_path):
    tf = pytest.importorskip("tensorflow")
    names, values = zip(*sorted(tensors().items()), strict=True)
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "theirs"),
        tensor_names=list(names),
        shape_and_slices=[""] * len(names),
        tensors=[tf.constant(value) for value in values],
    )
    source = open_bundle(tmp_path / "theirs.index")
    reader_of_ours = tf.train.load_checkpoint(
        str(write_bundle(tmp_path / "ours.index", tensors()))[: -len(".index")]
    )
    for name, value in tensors().items():
        np.testing.assert_array_equal(source[name], value)
        if value.size:  # ours has no checksums of tensors, which TensorFlow wants
            assert reader_of_ours.get_variable_to_shape_map()[name] == list(value.shape)
