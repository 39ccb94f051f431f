"""Named tensors as views of mapped files: nothing is read before its time."""

import hashlib
import json
import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HASHED_BYTES = 1 << 22
# Strides of 0 make many elements of few bytes: a file may not ask for terabytes.
MAX_REPEATED = 1 << 31
# More elements than any disk holds; beyond this even NumPy's own checks overflow.
MAX_NUMBER = 1 << 48


class MappedFile:
    """A file whose bytes appear in memory where they are looked at."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Map a file; the mapping lives as long as its views.

        Raises:
          OSError: no such file, a folder, or no permission.
        """
        self.path = Path(path)
        with open(path, "rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            empty = not self.size  # which cannot be mapped
            self._bytes: Any = (
                b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            )

    def piece(self, start: int, size: int) -> memoryview:
        """Return bytes of the file, without a copy.

        Raises:
          ValueError: they reach beyond the end.
        """
        if start < 0 or size < 0 or start + size > self.size:
            raise ValueError("it is cut short: its data reach beyond its end")
        return memoryview(self._bytes)[start : start + size]

    def release(self) -> None:
        """Give back the memory of all that was looked at; views stay valid."""
        if hasattr(self._bytes, "madvise"):
            self._bytes.madvise(mmap.MADV_DONTNEED)


def view(
    piece: memoryview,
    dtype: np.dtype,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    offset: int = 0,
) -> np.ndarray:
    """Return a read-only array over bytes, however it is strided.

    Args:
      piece: the bytes of one storage.
      dtype: of its elements.
      shape: of the array.
      strides: in elements; None is row by row.
      offset: of the first element, in elements.

    Raises:
      ValueError: an element would lie outside the bytes.
    """
    numbers = (*shape, *(strides or ()), offset)
    if dtype.hasobject or not all(map(_is_possible, numbers)):
        raise ValueError("it holds a tensor of impossible type, shape or strides")
    steps = strides
    if steps is None:
        steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    if len(shape) != len(steps):
        raise ValueError("it holds a tensor with more strides than axes, or fewer")
    count, available = math.prod(shape), len(piece) // dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
    if count and last >= available:
        raise ValueError(
            f"it holds a tensor whose element {last} lies outside its storage of "
            f"{available}"
        )
    if count > max(available, MAX_REPEATED):
        raise ValueError(f"it holds a tensor that repeats itself {count} times")
    if not count:
        return np.zeros(tuple(shape), dtype)
    return np.ndarray(
        tuple(shape),
        dtype,
        piece,
        offset * dtype.itemsize,
        tuple(step * dtype.itemsize for step in steps),
    )


def _is_possible(number: object) -> bool:
    return type(number) is int and 0 <= number < MAX_NUMBER


class TensorSource(Mapping[str, np.ndarray]):
    """Tensors of a checkpoint by name, each a view of a mapped file.

    Shapes and types cost nothing; elements are read from disk where they are used.

    Attributes:
      path: the file or folder that was opened.
      files: what it is made of.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Mapping[str, np.ndarray],
        files: Sequence[MappedFile],
    ) -> None:
        """Join tensors and the files they live in."""
        self.path = Path(path)
        self.files = tuple(files)
        self._tensors = without_prefix(tensors)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def release(self) -> None:
        """Give back the memory of the tensors read so far."""
        for file in self.files:
            file.release()

    def settings(self, name: str = "config.json") -> dict[str, Any]:
        """Return a JSON file that lies beside the weights; {} where there is none.

        Raises:
          ValueError: it is no JSON object.
        """
        folder = self.path if self.path.is_dir() else self.path.parent
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ValueError(
                f"source is {str(self.path)!r}, expected a readable {name} beside it"
            ) from error
        if not isinstance(found, dict):
            raise ValueError(
                f"source is {str(self.path)!r}, expected an object in its {name}"
            )
        return found

    def provenance(
        self, on_bytes: Callable[[int], None] = lambda count: None
    ) -> dict[str, Any]:
        """Return name, size and SHA-256 of every file, read once from end to end.

        Args:
          on_bytes: hears how many bytes have just been read.
        """
        digests = {}
        for file in self.files:
            digest = hashlib.sha256()
            with open(file.path, "rb", buffering=0) as raw:
                while block := raw.read(HASHED_BYTES):
                    digest.update(block)
                    on_bytes(len(block))
            digests[file.path.name] = digest.hexdigest()
        size = sum(file.size for file in self.files)
        name = self.path.resolve().name
        return {"name": name, "size_bytes": size, "sha256": digests}


def without_prefix(
    tensors: Mapping[str, np.ndarray], prefix: str = "module."
) -> dict[str, np.ndarray]:
    """Drop the prefix that data-parallel training puts before every name."""
    cut = len(prefix) if all(name.startswith(prefix) for name in tensors) else 0
    return {name[cut:]: tensor for name, tensor in tensors.items()}
