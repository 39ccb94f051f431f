"""How one published parameter becomes one of ours; each architecture has a list."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


def _same(value: np.ndarray) -> np.ndarray:
    return value


def _linear(value: np.ndarray) -> np.ndarray:
    return value.T


def _conv(value: np.ndarray) -> np.ndarray:
    return np.moveaxis(value, (0, 1), (-1, -2))


def _rows(value: np.ndarray) -> np.ndarray:
    return value.reshape(-1, value.shape[-1])


def _negative(value: np.ndarray) -> np.ndarray:
    return np.asarray(-value)  # of a scalar NumPy makes no array


def _scalar(value: np.ndarray) -> np.ndarray:
    return value.reshape(())


TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "same": _same,
    "linear": _linear,  # [out, in] -> [in, out]
    "conv": _conv,  # [O, I, *window] -> [*window, I, O]
    "negative": _negative,  # a logarithm of an inverse
    "rows": _rows,  # [1, 1, d] or [1, l, d] -> [l, d]
    "scalar": _scalar,  # [1] -> []
}
"""PyTorch's layouts to Flax's; views, so that nothing is copied before its time."""


class Rule(NamedTuple):
    r"""A published key and what becomes of it.

    Attributes:
      pattern: regular expression that the whole key must match.
      target: path in our tree, ``/`` between names; ``\1`` stands for the first
        group of the pattern. Empty: the tensor is known and not needed.
      transform: one of `TRANSFORMS`.
      part: (index, count) where several tensors are laid side by side, along the
        last axis of the target: PyTorch's separate q, k, v become our packed qkv.
    """

    pattern: str
    target: str
    transform: str = "same"
    part: tuple[int, int] = (0, 1)
