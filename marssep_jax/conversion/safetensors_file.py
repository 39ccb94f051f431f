"""Read safetensors files, whole or in shards, as views of mapped files."""

import json
import math
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from marssep_jax.conversion.tensors import TensorSource
from marssep_jax.weights.mapped import MappedFile, view

INDEX = ".index.json"

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def open_safetensors(path: str | os.PathLike[str]) -> TensorSource:
    """Open one file; tensors are read where they are used.

    Raises:
      OSError: no such file.
      ValueError: a reason, without the file's name.
    """
    file = MappedFile(path)
    return TensorSource(path, _tensors(file), [file])


def _tensors(file: MappedFile) -> dict[str, np.ndarray]:
    """Return the tensors of a file.

    The library checks the header. It then guarantees that the tensors lie one behind
    the other, without holes, up to the end of the file.
    """
    found: list[tuple[str, np.dtype, list[int]]] = []
    try:
        with safe_open(file.path, framework="numpy") as opened:
            for name in opened.offset_keys():
                entry = opened.get_slice(name)
                found.append((name, _dtype(entry.get_dtype()), entry.get_shape()))
    except SafetensorError as error:
        reason = " ".join(str(error).split()).rpartition(": ")[2]
        raise ValueError(f"it is cut short or damaged: {reason}") from error
    sizes = [dtype.itemsize * math.prod(shape) for _, dtype, shape in found]
    start, tensors = file.size - sum(sizes), {}
    for (name, dtype, shape), size in zip(found, sizes, strict=True):
        tensors[name] = view(file.piece(start, size), dtype, shape)
        start += size
    return tensors


def _dtype(name: Any) -> np.dtype:
    if str(name) not in _DTYPES:
        raise ValueError(f"it holds tensors of type {name}")
    return jnp.dtype(_DTYPES[str(name)])


def open_index(path: str | os.PathLike[str], open_shard: Any) -> TensorSource:
    """Open a checkpoint in shards, whose index says which tensor is in which file.

    Args:
      path: the index, ``*.index.json``; the shards lie beside it.
      open_shard: opens one of them.

    Raises:
      OSError: a file that is not there.
      ValueError: a reason, without the file's name.
    """
    index = MappedFile(path)
    try:
        places = json.loads(bytes(index.piece(0, index.size)))["weight_map"]
        names = sorted(set(places.values()))
        foreign = [name for name in names if Path(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("its index has no weight_map of names to files") from error
    # A shard lies beside its index: nothing else is opened on a file's word.
    if foreign:
        raise ValueError(f"its index names {foreign[0]!r}, which is no plain file name")
    shards = {name: open_shard(Path(path).parent / name) for name in names}
    missing = [key for key, name in places.items() if key not in shards[name]]
    if missing:
        raise ValueError(f"{missing[0]!r} is not in {places[missing[0]]!r}")
    tensors = {key: shards[name][key] for key, name in places.items()}
    files = [file for shard in shards.values() for file in shard.files]
    return TensorSource(path, tensors, [index, *files])
