"""Open published weights, whatever file or folder they come in."""

import os
from pathlib import Path

from marssep_jax.conversion.safetensors_file import INDEX, open_index, open_safetensors
from marssep_jax.conversion.tensors import TensorSource
from marssep_jax.conversion.torch_archive import open_torch
from marssep_jax.weights import stored_zip

EXPECTED = "weights as PyTorch (.pth, .pt, .bin) or safetensors files"
# What a folder is searched for, the first that is there.
USUAL_NAMES = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
)
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_START_BYTES = 512
# safetensors allows no more.
MAX_HEADER_BYTES = 100_000_000


def open_source(
    path: str | os.PathLike[str], *, placeholders: bool = False
) -> TensorSource:
    """Open published weights by what is in the file, not by its name.

    A folder stands for the weights in it: those under a usual name, or else the only
    file that ends like weights.

    Args:
      path: a file, the index of a checkpoint in shards, or a folder.
      placeholders: pass over objects of unknown classes in PyTorch files.

    Raises:
      ValueError: no such file, or none that can be read, in one line.
    """
    try:
        source = _open(_file_of(Path(path)), placeholders)
        if not source:
            raise ValueError("it holds no tensors")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(
            f"source is {os.fspath(path)!r}, expected {EXPECTED} ({reason})"
        ) from error
    source.path = Path(path)
    return source


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    usual = [path / name for name in USUAL_NAMES if (path / name).is_file()]
    if usual:
        return usual[0]
    found = sorted(p for p in path.iterdir() if p.name.endswith((*SUFFIXES, INDEX)))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"the folder should hold one file of weights, found {names}")
    return found[0]


def _open(path: Path, placeholders: bool) -> TensorSource:
    start = _start_of(path)
    if start.lstrip()[:1] == b"{" and not _is_safetensors(start):
        return open_index(path, lambda shard: _open_file(shard, placeholders))
    return _open_file(path, placeholders)


def _open_file(path: Path, placeholders: bool) -> TensorSource:
    start = _start_of(path)
    if start.startswith(stored_zip.SIGNATURE):
        return open_torch(path, placeholders=placeholders)
    if _is_safetensors(start):
        return open_safetensors(path)
    raise ValueError(_what_else(start))


def _start_of(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_START_BYTES)


def _is_safetensors(start: bytes) -> bool:
    """Say whether a header of believable length follows its length."""
    length = int.from_bytes(start[:8], "little")
    return start[8:9] == b"{" and length <= MAX_HEADER_BYTES


def _what_else(start: bytes) -> str:
    """Say what a file is that holds no weights that can be read."""
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS: fetch the file itself"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "it is a web page: the download went wrong"
    if start.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04")):
        return (
            "it was written by PyTorch before 1.6, or is a bare pickle: load it there "
            "and save it with a newer PyTorch"
        )
    return "it is neither a zip nor safetensors"
