"""Find the files inside a zip whose members are stored as they are."""

import struct
import zipfile
from typing import NamedTuple

from marssep_jax.weights.mapped import MappedFile

SIGNATURE = b"PK\x03\x04"
_HEADER_BYTES = 30  # then come a name and extra fields, whose lengths end it
_ENCRYPTED = 1


class Member(NamedTuple):
    """Where a member's bytes are, and the checksum that the zip has of them."""

    start: int
    size: int
    crc32: int


def members(file: MappedFile) -> dict[str, Member]:
    """Return the members of a zip by name.

    Raises:
      ValueError: a reason, without the file's name: cut short, damaged, or with
        compressed members, which cannot be mapped.
    """
    try:
        with zipfile.ZipFile(file.path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error) as error:
        raise ValueError("it is a zip that is cut short or damaged") from error
    return {entry.filename: _locate(file, entry) for entry in entries}


def _locate(file: MappedFile, entry: zipfile.ZipInfo) -> Member:
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
        raise ValueError(f"its member {entry.filename!r} is compressed or encrypted")
    header = bytes(file.piece(entry.header_offset, _HEADER_BYTES))
    if not header.startswith(SIGNATURE):
        raise ValueError("it is a zip that is cut short or damaged")
    name_length, extra_length = struct.unpack("<HH", header[-4:])
    start = entry.header_offset + _HEADER_BYTES + name_length + extra_length
    file.piece(start, entry.file_size)  # is it inside the file?
    return Member(start, entry.file_size, entry.CRC)
