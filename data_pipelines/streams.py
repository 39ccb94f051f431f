"""Endless streams of batches: tf.data behind an iterator that knows its place.

Batch number s is a pure function of the seed and s. Resuming is therefore
starting at another step, and several hosts get slices of the same batch.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator

import numpy as np

from data_pipelines import mixing
from data_pipelines.catalogue import Catalogue
from data_pipelines.mixing import tf

Batch = dict[str, np.ndarray]
_LAST_STEP = 2**62


class BatchStream(Iterator[Batch]):
    """Batches that know their place, so that a checkpoint can keep it.

    Attributes:
      step: Number of the batch that comes next.
    """

    def __init__(self, make: Callable[[tf.Tensor], dict], start_step: int) -> None:
        stop = tf.Variable(_LAST_STEP, dtype=tf.int64, trainable=False)
        self._batches = _dataset(make, start_step, stop).as_numpy_iterator()
        self.step = start_step
        self._finish = weakref.finalize(self, _drain, self._batches, stop)

    def __iter__(self) -> "BatchStream":
        """Return itself."""
        return self

    def __next__(self) -> Batch:
        """Return the next batch."""
        batch: Batch = next(self._batches)
        self.step += 1
        return batch

    def state(self) -> dict[str, int]:
        """Return what a checkpoint must keep: the ``start_step`` to resume at."""
        return {"step": self.step}

    def close(self) -> None:
        """Stop the threads behind the stream; dropping it does the same."""
        self._finish()


def _drain(batches: Iterator[Batch], stop: tf.Variable) -> None:
    """Let batches under way finish before TensorFlow destroys the iterator.

    Its destructor waits for them while it holds Python's lock, which they need to
    read clips: without this, leaving a stream half-read would hang for ever.
    """
    stop.assign(0)
    with contextlib.suppress(tf.errors.OpError):
        for _ in batches:
            pass


def read_crops(
    clips: np.ndarray, row: np.ndarray, offset: np.ndarray, length: int
) -> np.ndarray:
    """Read crops from (memory-mapped) clips, going on at a clip's start.

    Args:
      clips: int16 [C, T].
      row: Rows of it, int [...].
      offset: First sample of each crop, int [...].
      length: Length of a crop, at most T.

    Returns:
      int16 [..., length].
    """
    crops = np.empty((*row.shape, length), np.int16)
    size = clips.shape[1]
    for place in np.ndindex(row.shape):
        start = int(offset[place]) % size
        head = clips[row[place], start : start + length]
        crops[place][: len(head)] = head
        crops[place][len(head) :] = clips[row[place], : length - len(head)]
    return crops


def host_rows(batch_size: int, process_index: int, process_count: int) -> slice:
    """Return which rows of the batch of all hosts are this host's.

    Raises:
      ValueError: numbers that do not fit each other.
    """
    if process_count < 1 or batch_size % process_count:
        raise ValueError(
            f"process_count is {process_count}, expected a divisor of batch_size = "
            f"{batch_size}"
        )
    if not 0 <= process_index < process_count:
        raise ValueError(
            f"process_index is {process_index}, expected 0 to {process_count - 1}"
        )
    share = batch_size // process_count
    return slice(process_index * share, (process_index + 1) * share)


def furthest_offset(catalogue: Catalogue, length: int, max_offset: int | None) -> int:
    """Return the largest crop offset; None lets no crop pass its clip's end.

    Raises:
      ValueError: crops longer than the clips.
    """
    if not 0 < length <= catalogue.num_samples:
        raise ValueError(
            f"num_samples is {length}, expected 1 to the clip length "
            f"{catalogue.num_samples}"
        )
    return catalogue.num_samples - length if max_offset is None else max_offset


def draw_knots(
    seed: tf.Tensor, shape: tuple[int, ...], eq_db: float, rows: slice
) -> tf.Tensor | None:
    """Draw this host's equaliser curves; None where there is no equaliser."""
    if eq_db == 0:
        return None
    return mixing.normal(seed, (*shape, mixing.NUM_KNOTS), eq_db)[rows]


def call(
    function: Callable[..., list[np.ndarray]], inputs: tuple, types: list
) -> list[tf.Tensor]:
    """Run NumPy inside the graph; pure, whatever TensorFlow may think of it."""
    return tf.numpy_function(function, inputs, types, stateful=False)


def _dataset(
    make: Callable[[tf.Tensor], dict], start_step: int, stop: tf.Variable
) -> tf.data.Dataset:
    """Map step numbers to batches, two at a time, one batch ahead.

    Two threads in all: on a small machine training needs the cores more.
    """
    if start_step < 0:
        raise ValueError(f"start_step is {start_step}, expected 0 or more")
    mixing.keep_off_accelerators()
    steps = tf.data.Dataset.range(start_step, _LAST_STEP)
    steps = steps.take_while(lambda step: step < stop)
    dataset = steps.map(make, num_parallel_calls=2, deterministic=True).prefetch(2)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 2
    options.threading.max_intra_op_parallelism = 1
    options.deterministic = True
    # Nothing here is left to tune, and the thread that would do it sleeps for up to
    # a minute at a time: dropping the iterator waits for it.
    options.autotune.enabled = False
    return dataset.with_options(options)
