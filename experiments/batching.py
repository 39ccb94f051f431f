"""Run a compiled function over more rows than fit into one call."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from marssep_jax import interrupts

BATCH = 64


def in_batches(
    run: Callable[[Any], Any],
    rows: Any,
    dtype: Any,
    batch: int = BATCH,
    on_batch: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Return what a function makes of rows, a batch at a time.

    The last batch is filled up with zeros, so that nothing is compiled twice.

    Args:
      run: rows [batch, ...] -> array [batch, ...], compiled.
      rows: array [n, ...], memory-mapped for all that matters.
      dtype: what the function takes.
      batch: rows a call.
      on_batch: hears how many rows each batch had.
    """
    item = rows.shape[1:]
    shape = jax.eval_shape(run, jax.ShapeDtypeStruct((batch, *item), dtype))
    found = np.zeros((len(rows), *shape.shape[1:]), shape.dtype)
    for start in range(0, len(rows), batch):
        interrupts.check()
        part = np.asarray(rows[start : start + batch], dtype)
        filled = np.zeros((batch, *item), dtype)
        filled[: len(part)] = part
        found[start : start + batch] = np.asarray(run(filled))[: len(part)]
        if on_batch is not None:
            on_batch(len(part))
    return found
