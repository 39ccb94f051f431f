"""Read LevelDB's sorted tables, the container of TensorFlow's checkpoint index.

A table is a file of blocks. A block is a run of entries, each a key that shares a
prefix with the one before it and a value, then a list of restart points; five bytes
of kind and checksum follow it. The footer at the file's end says where the index
block lies, whose values say where the others are.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

FOOTER_BYTES = 48
MAGIC = 0xDB4775248B80FB57
TRAILER_BYTES = 5
UNCOMPRESSED = 0
# 63 bits in groups of seven, the largest number that a size or offset can be.
MAX_VARINT_BYTES = 9
CRC32C_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed


class Fields:
    """Takes numbers and bytes off a run of bytes, one after the other."""

    def __init__(self, data: bytes) -> None:
        """Start at the first byte."""
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
          ValueError: there are not so many.
        """
        end = self._at + count
        if end > len(self._data):
            raise ValueError("a record of it is cut short")
        found, self._at = self._data[self._at : end], end
        return found

    def varint(self) -> int:
        """Return the next number, seven bits a byte, the lowest first.

        Raises:
          ValueError: it has no end, or is too large for an offset.
        """
        value = 0
        for place in range(MAX_VARINT_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
        raise ValueError("a number of it has no end")


@lru_cache(maxsize=1)
def _crc_table() -> np.ndarray:
    value = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        value = np.where(value & 1, (value >> 1) ^ CRC32C_POLYNOMIAL, value >> 1)
    return value


def masked_crc32c(data: bytes) -> int:
    """Return CRC-32C as LevelDB stores it: rotated by 15 bits, plus a constant."""
    table = _crc_table().tolist()
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a table, in order.

    Args:
      data: the whole file.

    Raises:
      ValueError: a reason, without the file's name: cut short, damaged (every
        block's checksum is checked) or compressed.
    """
    footer = data[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != MAGIC:
        raise ValueError("it is no table, or one that is cut short")
    handles = Fields(footer[:-8])
    handles.varint(), handles.varint()  # of the meta index, which is empty
    for _, place in _entries(_block(data, handles)):
        yield from _entries(_block(data, Fields(place)))


def _block(data: bytes, handle: Fields) -> bytes:
    """Return a block's entries and restart points, checked."""
    start, size = handle.varint(), handle.varint()
    block = data[start : start + size + TRAILER_BYTES]
    if len(block) != size + TRAILER_BYTES:
        raise ValueError("it is cut short: a block reaches beyond its end")
    kind = block[size]
    if masked_crc32c(block[: size + 1]) != struct.unpack("<I", block[size + 1 :])[0]:
        raise ValueError("it is damaged: a block's checksum is wrong")
    if kind != UNCOMPRESSED:
        raise ValueError(f"a block of it is compressed (kind {kind})")
    return block[:size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise ValueError("a block of it is cut short")
    num_restarts = struct.unpack("<I", block[-4:])[0]
    end = len(block) - 4 * (num_restarts + 1)
    if end < 0:
        raise ValueError("a block of it has more restart points than bytes")
    fields, key = Fields(block[:end]), b""
    while fields:
        shared, rest, size = fields.varint(), fields.varint(), fields.varint()
        if shared > len(key):
            raise ValueError("a key of it shares more than there is")
        key = key[:shared] + fields.take(rest)
        yield key, fields.take(size)
