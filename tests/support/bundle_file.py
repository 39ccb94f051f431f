"""Write checkpoints in TensorFlow's bundle format without TensorFlow."""

import struct

import numpy as np

from marssep_jax.conversion.sorted_table import FOOTER_BYTES, MAGIC, masked_crc32c

NUMBERS = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "bool": 10}
RESTART_EVERY = 3


def varint(value):
    """Return a number, seven bits a byte."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, value):
    """Return a field of a protocol buffer: a number, or bytes."""
    if isinstance(value, int):
        return varint(8 * number) + varint(value)
    return varint(8 * number + 2) + varint(len(value)) + value


def block(rows):
    """Return keys and values as a block; a key shares what it can with the last."""
    out, restarts, last = bytearray(), [], b""
    for index, (key, value) in enumerate(rows):
        shared = 0
        if index % RESTART_EVERY:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        else:
            restarts.append(len(out))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(out) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def table(blocks, kind=0):
    """Return a whole table of blocks of rows."""
    out, index = bytearray(), []

    def put(content):
        place = varint(len(out)) + varint(len(content))
        content += bytes([kind])
        out.extend(content + struct.pack("<I", masked_crc32c(content)))
        return place

    index += [(rows[-1][0], put(block(rows))) for rows in blocks]
    handles = put(block([])) + put(block(index))
    return (
        bytes(out)
        + handles.ljust(FOOTER_BYTES - 8, b"\0")
        + MAGIC.to_bytes(8, "little")
    )


def entry(array, offset, **changes):
    """Return the record of a tensor; ``changes`` replace fields by number."""
    sizes = b"".join(field(2, field(1, size) if size else b"") for size in array.shape)
    fields = {
        1: NUMBERS[str(array.dtype)],
        2: sizes,
        4: offset,
        5: array.nbytes,
    }
    fields |= {int(name[1:]): value for name, value in changes.items()}
    return b"".join(field(n, v) for n, v in sorted(fields.items()) if v != 0)


def write_bundle(index, tensors, *, header=None, changes=None, rows_per_block=4):
    """Write a bundle of one data file; return the path of its index.

    Args:
      index: where, a path that ends in ``.index``.
      tensors: arrays by name.
      header: the record of the whole, if it should not be a right one.
      changes: fields of tensors' records to replace, by name.
      rows_per_block: the table has several blocks where there are more.
    """
    index.parent.mkdir(parents=True, exist_ok=True)
    raw = bytearray()
    rows = [(b"", field(1, 1) if header is None else header)]
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        record = entry(array, len(raw), **(changes or {}).get(name, {}))
        rows.append((name.encode(), record))
        raw += array.tobytes()
    parts = [
        rows[start : start + rows_per_block]
        for start in range(0, len(rows), rows_per_block)
    ]
    index.write_bytes(table(parts))
    stem = index.name.removesuffix(".index")
    index.with_name(f"{stem}.data-00000-of-00001").write_bytes(bytes(raw))
    return index
