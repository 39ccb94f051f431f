"""Write checkpoints in PyTorch's format without PyTorch, well formed or not.

The format: a zip with a pickle, ``data.pkl``, and a member ``data/KEY`` for each
storage. The opcodes are put down by hand, so that anything can be written.
"""

import io
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np

KINDS = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


class Storage(NamedTuple):
    """Elements under a key; ``claimed`` overrides how many the pickle says."""

    key: str
    elements: np.ndarray
    claimed: int | None = None


class Strided(NamedTuple):
    """A tensor described by numbers, which need not make sense."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Parameter(NamedTuple):
    """A tensor that was trained."""

    tensor: Any


class Call(NamedTuple):
    """What a pickle asks for: a function or class by name, and its arguments."""

    module: str
    name: str
    arguments: tuple[Any, ...] = ()


class Ordered(dict):
    """A dict that is pickled as an OrderedDict, with attributes as state dicts have."""


class Writer:
    """Collects a pickle and the storages it mentions."""

    def __init__(self):
        self.code = bytearray(b"\x80\x02")
        self.storages = {}

    def put(self, value):
        """Append the opcodes that build a value."""
        kind = type(value)
        if value is None or kind is bool:
            self.code += {None: b"N", True: b"\x88", False: b"\x89"}[value]
        elif kind is int:
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.code += b"\x8a" + bytes([len(raw)]) + raw
        elif kind is float:
            self.code += b"G" + struct.pack(">d", value)
        elif kind is str:
            raw = value.encode()
            self.code += b"X" + struct.pack("<I", len(raw)) + raw
        elif kind is tuple:
            self.items(b"(", value, b"t")
        elif kind is list:
            self.items(b"](", value, b"e")
        elif kind is dict:
            self.items(b"}(", [x for pair in value.items() for x in pair], b"u")
        elif kind is Ordered:
            self.call("collections", "OrderedDict")
            self.items(b"(", [x for pair in value.items() for x in pair], b"u")
            self.put({"_metadata": {"": {"version": 1}}})
            self.code += b"b"
        elif kind is Call:
            self.call(*value)
        else:
            self.tensor(value)
        return self

    def items(self, begin, values, end):
        self.code += begin
        for value in values:
            self.put(value)
        self.code += end

    def name(self, module, name):
        self.code += b"c" + f"{module}\n{name}\n".encode()

    def call(self, module, name, arguments=()):
        self.name(module, name)
        self.put(tuple(arguments))
        self.code += b"R"

    def tensor(self, value):
        if isinstance(value, Parameter):
            self.name("torch._utils", "_rebuild_parameter")
            self.code += b"("
            self.put(value.tensor).put(True).call("collections", "OrderedDict")
            self.code += b"tR"
            return
        if isinstance(value, np.ndarray | np.generic):
            value = plain(str(len(self.storages)), np.asarray(value))
        key, elements, claimed = value.storage
        self.storages[key] = elements
        self.name("torch._utils", "_rebuild_tensor_v2")
        self.code += b"(("
        self.put("storage").name("torch", KINDS[str(elements.dtype)])
        count = elements.size if claimed is None else claimed
        self.put(key).put("cpu").put(count)
        self.code += b"tQ"
        self.put(value.offset).put(tuple(value.shape)).put(tuple(value.strides))
        self.put(False).call("collections", "OrderedDict")
        self.code += b"tR"


def plain(key, array):
    """Return an array as a tensor that fills a storage of its own."""
    elements = np.ascontiguousarray(array).reshape(-1)
    strides = np.empty(array.shape, np.uint8).strides
    return Strided(Storage(key, elements), 0, array.shape, strides)


def pickled(value):
    """Return the pickle of a value."""
    return bytes(Writer().put(value).code) + b"."


def write_zip(path, members, compression=zipfile.ZIP_STORED):
    """Write a zip of members."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return path


def write_torch(path, value, root="archive/", members=(), byteorder=b"little"):
    """Write a checkpoint as PyTorch does; ``members`` are written instead or too."""
    writer = Writer().put(value)
    content = {f"{root}data.pkl": bytes(writer.code) + b"."}
    if byteorder:
        content[f"{root}byteorder"] = byteorder
    for key, elements in writer.storages.items():
        content[f"{root}data/{key}"] = elements.tobytes()
    content[f"{root}version"] = b"3\n"
    return write_zip(path, content | dict(members))


def write_pickle(path, code, root="archive/"):
    """Write a checkpoint whose pickle is given opcode by opcode."""
    return write_zip(path, {f"{root}data.pkl": code})


def in_memory(value):
    """Return the bytes of a checkpoint."""
    buffer = io.BytesIO()
    write_torch(buffer, value)
    return buffer.getvalue()
