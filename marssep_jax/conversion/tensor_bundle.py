"""Read checkpoints that TensorFlow 1 and 2 wrote, without TensorFlow.

Such a "bundle" is an index and one or more files of raw numbers. The index is a
sorted table from a tensor's name to a small protocol-buffer record: type, shape,
file, offset, size. The empty name holds a record of the whole.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from marssep_jax.conversion.sorted_table import Fields, read_table
from marssep_jax.conversion.tensors import TensorSource
from marssep_jax.weights.mapped import MappedFile, view

INDEX = ".index"
MAX_INDEX_BYTES = 1 << 26
MAX_SHARDS = 1_000
# Numbers of DataType in TensorFlow's types.proto.
DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    19: "float16",
}
STRING = 7
"""Tensors of strings hold no weights (TensorFlow 2 keeps its object graph so)."""


class _Entry(NamedTuple):
    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    sliced: bool = False


def open_bundle(index: str | os.PathLike[str]) -> TensorSource:
    """Open a bundle; tensors are read where they are used.

    The checksums of the index are verified, those of the tensors are not: whoever
    knows the file can compare its SHA-256 (`TensorSource.provenance`).

    Args:
      index: the file whose name ends in ``.index``; the others lie beside it.

    Raises:
      OSError: a file of it is not there.
      ValueError: a reason, without the file's name: damaged, cut short, of another
        byte order, or with tensors in slices.
    """
    index = Path(index)
    if not index.name.endswith(INDEX):
        raise ValueError("its name does not end in .index")
    table = MappedFile(index)
    if table.size > MAX_INDEX_BYTES:
        raise ValueError(f"its index has {table.size} bytes, over {MAX_INDEX_BYTES}")
    rows = dict(read_table(bytes(table.piece(0, table.size))))
    num_shards = _num_shards(rows.pop(b"", None))
    stem = index.name.removesuffix(INDEX)
    shards = [
        MappedFile(index.with_name(f"{stem}.data-{i:05d}-of-{num_shards:05d}"))
        for i in range(num_shards)
    ]
    tensors = {}
    for key, value in rows.items():
        entry = _entry(value)
        if entry.dtype != STRING:
            name = key.decode("utf-8", "replace")
            tensors[name] = _tensor(name, entry, shards)
    return TensorSource(index, tensors, [table, *shards])


def _num_shards(header: bytes | None) -> int:
    if header is None:
        raise ValueError("it is a table without a bundle in it")
    found = dict(_message(header))
    if found.get(2, 0):
        raise ValueError("its numbers are big-endian")
    count = found.get(1, 0)
    if not isinstance(count, int) or not 1 <= count <= MAX_SHARDS:
        raise ValueError(f"it says that it has {count!r} data files")
    return count


def _message(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a protocol buffer: numbers, or bytes."""
    fields = Fields(data)
    while fields:
        number, wire = divmod(fields.varint(), 8)
        if wire == 0:
            yield number, fields.varint()
        elif wire == 1:
            yield number, fields.take(8)
        elif wire == 2:
            yield number, fields.take(fields.varint())
        elif wire == 5:
            yield number, struct.unpack("<I", fields.take(4))[0]
        else:
            raise ValueError(f"a record of it has a field of kind {wire}")


def _entry(data: bytes) -> _Entry:
    names = {1: "dtype", 3: "shard", 4: "offset", 5: "size"}
    found: dict[str, Any] = {}
    for number, value in _message(data):
        if number in names and isinstance(value, int):
            found[names[number]] = value
        elif number == 2 and isinstance(value, bytes):
            found["shape"] = _shape(value)
        elif number == 7:
            found["sliced"] = True
    return _Entry(**found)


def _shape(data: bytes) -> tuple[int, ...]:
    sizes = []
    for number, value in _message(data):
        if number == 2 and isinstance(value, bytes):
            size = dict(_message(value)).get(1, 0)  # a size of 0 is not written
            sizes.append(size if isinstance(size, int) else -1)
    return tuple(sizes)


def _tensor(name: str, entry: _Entry, shards: list[MappedFile]) -> np.ndarray:
    if entry.sliced:
        raise ValueError(f"its tensor {name!r} is stored in slices")
    if entry.dtype not in DTYPES:
        raise ValueError(f"its tensor {name!r} is of type {entry.dtype}")
    if entry.shard >= len(shards):
        raise ValueError(f"its tensor {name!r} is in data file {entry.shard}")
    dtype = jnp.dtype(DTYPES[entry.dtype])
    piece = shards[entry.shard].piece(entry.offset, entry.size)
    tensor = view(piece, dtype, entry.shape)
    if tensor.nbytes != entry.size:
        raise ValueError(
            f"its tensor {name!r} has {entry.size} bytes, not {tensor.nbytes}"
        )
    return tensor
