"""What torch's pickles are made of: storages, tensors, and names that make them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

MAX_RANK = 32


class Storage(NamedTuple):
    """A run of elements in a file of its own; ``dtype`` is None if untyped."""

    dtype: np.dtype | None
    key: str
    num_bytes: int


class StoredTensor(NamedTuple):
    """How a tensor lies in its storage; strides and offset count elements."""

    dtype: np.dtype
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Placeholder:
    """Stands for an object of a class that is not read."""

    def __init__(self, name: str) -> None:
        """Remember the name of the class."""
        self.name = name


class Symbol(NamedTuple):
    """A name that is known: of a class, a function or a type."""

    name: str


_DTYPES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "complex64": "ComplexFloat",
    "complex128": "ComplexDouble",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}
STORAGES: dict[str, np.dtype | None] = {
    f"torch.{kind}Storage": jnp.dtype(name) for name, kind in _DTYPES.items()
}
STORAGES["torch.storage.UntypedStorage"] = None
# Types without a storage class of their own come with untyped storages.
_UNTYPED = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")
ELEMENTS = {f"torch.{name}": jnp.dtype(name) for name in (*_DTYPES, *_UNTYPED)}


def _empty_dict() -> dict[Any, Any]:
    return {}


def _tensor(
    storage: Storage, offset: int, shape: Any, strides: Any, *_: Any
) -> StoredTensor:
    if not isinstance(storage, Storage) or storage.dtype is None:
        raise ValueError
    if max(len(shape), len(strides)) > MAX_RANK:
        raise ValueError
    return StoredTensor(storage.dtype, storage, offset, tuple(shape), tuple(strides))


def _typed_tensor(
    storage: Storage,
    offset: int,
    shape: Any,
    strides: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Symbol,
    *_: Any,
) -> StoredTensor:
    typed = storage._replace(dtype=ELEMENTS[dtype.name])
    return _tensor(typed, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _number(*_: Any) -> Placeholder:
    return Placeholder("numpy.number")


RECIPES: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _empty_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    # NumPy's numbers, such as a best score, stand beside tensors in many files.
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    "numpy.dtype": _number,
    "_codecs.encode": _number,
}
