"""Files whose bytes are read where they are looked at, and arrays over them."""

import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
