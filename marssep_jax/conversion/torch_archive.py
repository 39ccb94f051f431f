"""Read checkpoints that PyTorch 1.6 or newer wrote, without PyTorch.

Such a file is a zip: a pickle that describes tensors, and one uncompressed member
for each storage, so that tensors are views of the mapped file.

Names: where the pickled dict has an entry ``state_dict``, ``model_state_dict`` or
``model`` that is a dict, only that one is read, and so on inside it. Below, the
names of nested dicts are joined by dots; what is no tensor is left out. A prefix
``module.`` before all names is dropped.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from marssep_jax.conversion import torch_pickle
from marssep_jax.conversion.tensors import TensorSource
from marssep_jax.conversion.torch_objects import StoredTensor
from marssep_jax.weights.mapped import MappedFile, view
from marssep_jax.weights.stored_zip import Member, members

WRAPPERS = ("state_dict", "model_state_dict", "model")
MAX_DEPTH = 16
# Dicts may share their insides: a small pickle can describe a tree without end.
MAX_ENTRIES = 1_000_000
MAX_NAME = 1_000


def open_torch(
    path: str | os.PathLike[str], *, placeholders: bool = False
) -> TensorSource:
    """Open a checkpoint; tensors are read where they are used.

    Args:
      path: the file.
      placeholders: pass over objects of unknown classes, as in files that hold
        more than weights. They are not imported either way.

    Raises:
      OSError: no such file.
      ValueError: a reason, without the file's name.
    """
    file = MappedFile(path)
    found = members(file)
    root = _root(found)
    description = torch_pickle.load(
        bytes(_piece(file, found[f"{root}data.pkl"])), placeholders
    )
    if f"{root}byteorder" in found:
        order = bytes(_piece(file, found[f"{root}byteorder"]))
        if order != b"little":
            raise ValueError(f"its byte order is {order!r}, not little")
    tensors: dict[str, np.ndarray] = {}
    for name, stored in _named(_unwrapped(description)):
        if name in tensors:
            raise ValueError(f"two tensors are called {name!r}")
        tensors[name] = _tensor(file, found, f"{root}data/", stored)
    return TensorSource(path, tensors, [file])


def _root(found: dict[str, Member]) -> str:
    """Return what stands before every member's name."""
    if any(name.endswith("constants.pkl") for name in found):
        raise ValueError("it is a TorchScript program, not a state dict")
    roots = [name.removesuffix("data.pkl") for name in found if name.endswith("a.pkl")]
    roots = [root for root in roots if root == "" or root.endswith("/")]
    if len(roots) != 1:
        raise ValueError("it is a zip without a checkpoint in it")
    return roots[0]


def _piece(file: MappedFile, member: Member) -> memoryview:
    return file.piece(member.start, member.size)


def _unwrapped(description: Any) -> dict[Any, Any]:
    for _ in range(MAX_DEPTH):
        if not isinstance(description, dict):
            break
        inner = [description[name] for name in WRAPPERS if name in description]
        inner = [value for value in inner if isinstance(value, dict)]
        if not inner:
            return description
        description = inner[0]
    raise ValueError("it holds no dict of tensors")


def _named(tree: dict[Any, Any]) -> Iterator[tuple[str, StoredTensor]]:
    """Yield tensors with their dotted names."""
    pending: list[tuple[str, Any, int]] = [("", tree, 0)]
    visited = 0
    while pending:
        name, value, depth = pending.pop()
        visited += 1
        if visited > MAX_ENTRIES or depth > MAX_DEPTH or len(name) > MAX_NAME:
            raise ValueError("its dicts are nested without end")
        if isinstance(value, StoredTensor):
            yield name, value
        elif isinstance(value, dict):
            pending += [
                (f"{name}.{key}" if name else str(key), child, depth + 1)
                for key, child in reversed(value.items())
            ]


def _tensor(
    file: MappedFile, found: dict[str, Member], prefix: str, stored: StoredTensor
) -> np.ndarray:
    _, key, num_bytes = stored.storage
    if prefix + key not in found:
        raise ValueError(f"its storage {key!r} is missing")
    piece = _piece(file, found[prefix + key])
    if len(piece) != num_bytes:
        raise ValueError(f"its storage {key!r} has {len(piece)} bytes, not {num_bytes}")
    return view(piece, stored.dtype, stored.shape, stored.strides, stored.offset)
