"""Converted encoders on disk: one folder of plain arrays and what they are.

``encoder.json`` says which architecture the weights belong to, in which sizes, under
which licence, and which files they were made of. ``parameters.npz`` is an
uncompressed zip: it is written array by array, however large the whole, any NumPy
opens it, reading it runs no code, and its arrays can be mapped into memory, so that
only those that are used are read. Beside them lie copies of the published tokenizer's
files, if there were any.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from marssep_jax import interrupts
from marssep_jax._version import __version__
from marssep_jax.config import to_dict
from marssep_jax.folders import reason_of, write_bytes, written_whole
from marssep_jax.types import Params
from marssep_jax.weights.mapped import MappedFile, view
from marssep_jax.weights.stored_zip import Member, members

FORMAT = "marssep-encoder"
FORMAT_VERSION = 1
RECORD, ARRAYS = "encoder.json", "parameters.npz"
EXPECTED = "the folder of a converted encoder"

_BLOCK_BYTES = 1 << 24
# Mapped arrays begin where processors and accelerators like them to.
_ALIGNMENT = 64
_PADDING_FIELD = 0x4D4A
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the same weights make the same file


def save_encoder(
    path: str | os.PathLike[str],
    architecture: str,
    config: Any,
    arrays: Mapping[str, Any] | Iterable[tuple[str, np.ndarray]],
    licence: str,
    source: Mapping[str, Any],
    beside: Sequence[Path] = (),
) -> dict[str, Any]:
    """Write an encoder, replacing one that is there; whole or not at all.

    Args:
      path: the folder.
      architecture: name in the table of architectures.
      config: its sizes, a record of dataclasses or plain values.
      arrays: parameters: nested dicts, or pairs of path and array that are written
        as they come, so that there need never be more than one in memory.
      licence: of the weights.
      source: where they come from: `TensorSource.provenance`.
      beside: small files to copy, such as a tokenizer's.

    Returns:
      What was written to ``encoder.json``.

    Raises:
      ValueError: a file or another folder is in the way.
      OSError: no room, or no permission.
    """
    pairs: Any = arrays
    if isinstance(arrays, Mapping):
        pairs = traverse_util.flatten_dict(arrays, sep="/").items()
    with written_whole(path, RECORD, "an encoder") as partial:
        layout = _write_arrays(partial / ARRAYS, pairs)
        files = {path.name: _copy(path, partial) for path in beside}
        record = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "architecture": architecture,
            "config": config if isinstance(config, dict) else to_dict(config),
            "licence": licence,
            "source": dict(source),
            "versions": {"marssep_jax": __version__},
            "layout": layout,
            "files": files,
        }
        write_bytes(partial / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return json.loads(json.dumps(record))  # as it will be read


def _copy(path: Path, folder: Path) -> str:
    """Copy a file into a folder and return its SHA-256."""
    raw = path.read_bytes()
    write_bytes(folder / path.name, raw)
    return hashlib.sha256(raw).hexdigest()


def _write_arrays(
    path: Path, arrays: Iterable[tuple[str, np.ndarray]]
) -> dict[str, dict[str, Any]]:
    """Write arrays one by one and return type, shape and checksum of each."""
    layout: dict[str, dict[str, Any]] = {}
    with open(path, "wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays:
                interrupts.check()
                entry = _entry(f"{name}.npy", file.tell())
                with archive.open(entry, "w", force_zip64=True) as member:
                    _write_array(member, np.asarray(array))
                layout[name] = {
                    "dtype": str(array.dtype),
                    "shape": list(array.shape),
                    "crc32": entry.CRC,
                }
        file.flush()
        os.fsync(file.fileno())
    return layout


def _entry(name: str, position: int) -> zipfile.ZipInfo:
    """Describe a member, padded so that its data begin at a round position."""
    entry = zipfile.ZipInfo(name, _FIXED_TIME)
    entry.external_attr = 0o644 << 16
    entry.CRC = entry.compress_size = entry.file_size = 0  # not known yet
    header = len(entry.FileHeader(zip64=True))
    padding = -(position + header + 4) % _ALIGNMENT
    entry.extra = (
        _PADDING_FIELD.to_bytes(2, "little")
        + padding.to_bytes(2, "little")
        + bytes(padding)
    )
    return entry


def _write_array(member: Any, array: np.ndarray) -> None:
    """Write an array as a .npy file, row by row, copying a few rows at a time."""
    descr = np.lib.format.dtype_to_descr(_plain(array.dtype))
    header = {"descr": descr, "fortran_order": False, "shape": array.shape}
    np.lib.format.write_array_header_1_0(member, header)
    rows = array if array.ndim else array[None]
    step = max(1, _BLOCK_BYTES * len(rows) // max(rows.nbytes, 1))
    for start in range(0, len(rows), step):
        block = np.ascontiguousarray(rows[start : start + step])
        member.write(block.view(np.uint8).data if block.size else b"")


def _plain(dtype: np.dtype) -> np.dtype:
    """Return unsigned integers for what NumPy has no name for, such as bfloat16."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype


def is_encoder(path: str | os.PathLike[str]) -> bool:
    """Say whether a folder holds a converted encoder."""
    return (Path(path) / RECORD).is_file()


def load_encoder(
    path: str | os.PathLike[str], *, verify: bool = False
) -> tuple[dict[str, Any], Params]:
    """Open a converted encoder.

    Args:
      path: its folder.
      verify: read all arrays and compare checksums; without it a file of another
        length or of other arrays is noticed, and a single flipped bit is not.

    Returns:
      The record, and the parameters as nested dicts of read-only arrays that are
      views of the mapped file: an array is read when it is used.

    Raises:
      ValueError: another folder, or a damaged or foreign encoder.
    """
    folder = Path(path)
    try:
        record = read_record(folder)
        _check_files(folder, record.get("files", {}))
        file = MappedFile(folder / ARRAYS)
        found = members(file)
        flat = {
            name: _mapped(file, found, name, entry, verify)
            for name, entry in record["layout"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"encoder is {str(path)!r}, expected {EXPECTED} ({reason_of(error)})"
        ) from error
    return record, traverse_util.unflatten_dict(flat, sep="/")


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Compare what lies beside the arrays, which is small, with the record."""
    for name, digest in files.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"it is damaged: {name} has changed")


def read_record(folder: Path) -> dict[str, Any]:
    """Return what ``encoder.json`` says, without its parameters.

    Raises:
      ValueError, OSError: not there, or of something else.
    """
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"its {RECORD} describes something else")
    if record.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"format {record.get('format_version')}, this version reads "
            f"{FORMAT_VERSION}"
        )
    for key in ("architecture", "config", "licence", "source", "layout"):
        if key not in record:
            raise ValueError(f"its {RECORD} has no {key!r}")
    return record


def _mapped(
    file: MappedFile,
    found: Mapping[str, Member],
    name: str,
    entry: Mapping[str, Any],
    verify: bool,
) -> np.ndarray:
    """Return one array as a view; what surrounds it is known from the record."""
    member = found[f"{name}.npy"]
    dtype, shape = jnp.dtype(entry["dtype"]), tuple(entry["shape"])
    size = dtype.itemsize * int(np.prod(shape))
    if member.crc32 != entry["crc32"] or member.size < size:
        raise ValueError(f"its {ARRAYS} is damaged: {name} is another array")
    if verify:
        whole = file.piece(member.start, member.size)
        if zlib.crc32(whole) != member.crc32:
            raise ValueError(f"its {ARRAYS} is damaged: {name} has changed")
        file.release()
    piece = file.piece(member.start + member.size - size, size)
    return view(piece, dtype, shape)
