"""Endless streams of training batches from a prepared data set.

Batch number s is a pure function of the seed and s. Resuming is therefore
starting at another step, and several hosts get slices of the same batch.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterator

import numpy as np

from data_pipelines import mixing
from data_pipelines.catalogue import Catalogue, crop_samples
from data_pipelines.mixing import tf
from data_pipelines.plan import Index, MixtureSpec, plan_alignment, plan_mixtures

__all__ = ["BatchStream", "MixtureSpec", "alignment_batches", "mixture_batches"]

Batch = dict[str, np.ndarray]

HEARD = ("audio", "view", "positive", "negative")
"""The waveforms of an alignment batch."""

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


def mixture_batches(
    catalogue: Catalogue,
    split: str,
    spec: MixtureSpec,
    *,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchStream:
    """Draw mixtures with their queries.

    Args:
      catalogue: A prepared data set.
      split: Which clips to draw from.
      spec: What a mixture is.
      start_step: Number of the first batch.
      process_index: This host's number.
      process_count: How many hosts share a batch.

    Returns:
      A stream of dicts with b = batch_size / process_count and K = sources +
      absent: ``target`` float32 [b, K, T] (silent where absent); ``label``,
      ``clip_id`` (row of the split's clips, -1 where absent), ``text_id``,
      ``audio_id`` (another clip of the label; the same one where there is only
      one), ``image_id`` (-1 where the class has none), all int32 [b, K];
      ``query_weight`` float32 [b, K, 3] over text, audio, image.

    Raises:
      ValueError: a number that does not fit the data set or the hosts.
    """
    rows = _host_rows(spec.batch_size, process_index, process_count)
    index = Index(catalogue, split)
    needed = spec.num_sources + spec.num_absent
    if len(index.labels) < needed:
        raise ValueError(
            f"split {split!r} has {len(index.labels)} classes, expected at least "
            f"num_sources + num_absent = {needed}"
        )
    clips, length = catalogue.clips[split], spec.num_samples
    reach = _reach(catalogue, length, spec.max_offset)
    shape = (spec.batch_size, spec.num_sources)

    def fetch(step: np.int64, offset: np.ndarray) -> list[np.ndarray]:
        plan = plan_mixtures(index, spec, int(step))
        mine = {name: value[rows] for name, value in plan.items()}
        chosen = mine["clip_id"][:, : spec.num_sources]
        return [read_crops(clips, chosen, offset[rows], length), *mine.values()]

    def make(step: tf.Tensor) -> dict[str, tf.Tensor]:
        seed = tf.stack([tf.constant(spec.seed, tf.int64), step])
        offset = mixing.draw_offset(mixing.fold_in(seed, 1), shape, reach)
        crops, *rest = _call(fetch, (step, offset), _MIXTURE_TYPES)
        crops.set_shape((rows.stop - rows.start, spec.num_sources, length))
        gain = mixing.uniform(
            mixing.fold_in(seed, 2), shape, -spec.gain_db, spec.gain_db
        )
        knots = _knots(mixing.fold_in(seed, 3), shape, spec.eq_db, rows)
        target = mixing.source(crops, gain[rows], knots, catalogue.sample_rate_hz)
        target = tf.pad(target, [[0, 0], [0, spec.num_absent], [0, 0]])
        return {"target": target, **dict(zip(_MIXTURE_KEYS, rest, strict=True))}

    return BatchStream(make, start_step)


def alignment_batches(
    catalogue: Catalogue,
    split: str,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    residue_db: tuple[float, float] = (-26.0, -4.0),
    residue_share: float = 0.5,
    *,
    num_samples: int | None = None,
    gain_db: float = 5.0,
    eq_db: float = 4.0,
    heard: tuple[str, ...] = HEARD,
    process_index: int = 0,
    process_count: int = 1,
) -> BatchStream:
    """Draw what the encoder's alignment stages and the judge train on.

    Args:
      catalogue: A prepared data set.
      split: Which clips to draw from.
      batch_size: Items in the batch of all hosts.
      seed: Seed of the sequence.
      start_step: Number of the first batch.
      residue_db: Range of the level of a residue against the clip.
      residue_share: Share of clips that carry a residue of another class, so that
        the encoder grades how well a sound was separated.
      num_samples: Length of a crop; None takes the data set's own.
      gain_db: Gains are uniform within plus and minus this.
      eq_db: Standard deviation at the equaliser's knots.
      heard: Which waveforms to make; leaving some out changes no other.
      process_index: This host's number.
      process_count: How many hosts share a batch.

    Returns:
      A stream of dicts: what is ``heard`` of ``audio``, ``view`` (the same clip, augmented anew),
      ``positive`` (another clip of the class), ``negative`` (another class, of
      the same family if it has one), all float32 [b, T]; ``label``, ``text_id``,
      ``image_id`` (-1 where the class has none), all int32 [b].

    Raises:
      ValueError: a number that does not fit the data set or the hosts.
    """
    rows = _host_rows(batch_size, process_index, process_count)
    index = Index(catalogue, split)
    if len(index.labels) < 2:
        raise ValueError(f"split {split!r} has fewer than 2 classes, expected more")
    if unknown := sorted(set(heard) - set(HEARD)):
        raise ValueError(f"heard is {unknown[0]!r}, expected some of {HEARD}")
    length = crop_samples(catalogue) if num_samples is None else num_samples
    reach, clips = _reach(catalogue, length, None), catalogue.clips[split]
    shape = (batch_size, len(_DRAWN))
    own = [HEARD.index(name) for name in heard]
    marred = [place for place in own if HEARD[place] in _RESIDUE_OF]
    columns = own + [len(HEARD) + place for place in marred]

    def fetch(step: np.int64, offset: np.ndarray) -> list[np.ndarray]:
        plan = plan_alignment(index, batch_size, seed, int(step))
        chosen = np.stack([plan[_DRAWN[column]] for column in columns], axis=1)
        crops = read_crops(clips, chosen[rows], offset[rows][:, columns], length)
        return [crops, *(plan[name][rows] for name in _ALIGNMENT_KEYS)]

    def make(step: tf.Tensor) -> dict[str, tf.Tensor]:
        base = tf.stack([tf.constant(seed, tf.int64), step])
        draw = [mixing.fold_in(base, stream) for stream in range(11, 16)]
        offset = mixing.draw_offset(draw[0], shape, reach)
        crops, *rest = _call(fetch, (step, offset), [tf.int16] + 3 * [tf.int32])
        crops.set_shape((rows.stop - rows.start, len(columns), length))
        gain = mixing.uniform(draw[1], shape, -gain_db, gain_db)[rows]
        knots = _knots(draw[2], shape, eq_db, rows)
        level = mixing.uniform(draw[3], (batch_size, 2), *residue_db)[rows]
        level += gain[:, :2]  # against the clip as it is heard
        chance = mixing.uniform(draw[4], (batch_size, 2), 0.0, 1.0)[rows]
        rate, batch = catalogue.sample_rate_hz, {}
        for number, place in enumerate(own):
            curve = None if knots is None else knots[:, place]
            wave = mixing.source(crops[:, number], gain[:, place], curve, rate)
            if place in marred:
                column = crops[:, len(own) + marred.index(place)]
                residue = mixing.source(column, level[:, place], None, rate)
                kept = tf.cast(chance[:, place] < residue_share, tf.float32)
                wave += residue * kept[:, None]
            batch[HEARD[place]] = wave
        return batch | dict(zip(_ALIGNMENT_KEYS, rest, strict=True))

    return BatchStream(make, start_step)


_MIXTURE_KEYS = ("label", "clip_id", "text_id", "audio_id", "image_id", "query_weight")
_MIXTURE_TYPES = [tf.int16] + 5 * [tf.int32] + [tf.float32]
_ALIGNMENT_KEYS = ("label", "text_id", "image_id")
_DRAWN = ("clip_id", "clip_id", "positive_id", "negative_id") + 2 * ("residue_id",)
_RESIDUE_OF = ("audio", "view")


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


def _host_rows(batch_size: int, process_index: int, process_count: int) -> slice:
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


def _reach(catalogue: Catalogue, length: int, max_offset: int | None) -> int:
    if not 0 < length <= catalogue.num_samples:
        raise ValueError(
            f"num_samples is {length}, expected 1 to the clip length "
            f"{catalogue.num_samples}"
        )
    return catalogue.num_samples - length if max_offset is None else max_offset


def _knots(
    seed: tf.Tensor, shape: tuple[int, ...], eq_db: float, rows: slice
) -> tf.Tensor | None:
    if eq_db == 0:
        return None
    return mixing.normal(seed, (*shape, mixing.NUM_KNOTS), eq_db)[rows]


def _call(
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
    return dataset.with_options(options)
