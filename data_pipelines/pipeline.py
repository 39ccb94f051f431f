"""Training batches from a prepared data set: mixtures, and clips to align by."""

import numpy as np

from data_pipelines import mixing
from data_pipelines.catalogue import Catalogue, crop_samples
from data_pipelines.mixing import tf
from data_pipelines.plan import (
    Index,
    MixtureSpec,
    plan_alignment,
    plan_mixtures,
    plan_sweep,
)
from data_pipelines.streams import (
    BatchStream,
    call,
    draw_knots,
    furthest_offset,
    host_rows,
    read_crops,
)

__all__ = ["BatchStream", "MixtureSpec", "alignment_batches", "mixture_batches"]

HEARD = ("audio", "view", "positive", "negative")
"""The waveforms of an alignment batch."""

_MIXTURE_KEYS = ("label", "clip_id", "text_id", "audio_id", "image_id", "query_weight")
_MIXTURE_TYPES = [tf.int16] + 5 * [tf.int32] + [tf.float32]
_ALIGNMENT_KEYS = ("label", "text_id", "image_id")
_DRAWN = ("clip_id", "clip_id", "positive_id", "negative_id") + 2 * ("residue_id",)
_RESIDUE_OF = ("audio", "view")


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
    rows = host_rows(spec.batch_size, process_index, process_count)
    index = Index(catalogue, split)
    needed = spec.num_sources + spec.num_absent
    if len(index.labels) < needed:
        raise ValueError(
            f"split {split!r} has {len(index.labels)} classes, expected at least "
            f"num_sources + num_absent = {needed}"
        )
    clips, length = catalogue.clips[split], spec.num_samples
    reach = furthest_offset(catalogue, length, spec.max_offset)
    shape = (spec.batch_size, spec.num_sources)

    def fetch(step: np.int64, offset: np.ndarray) -> list[np.ndarray]:
        plan = plan_mixtures(index, spec, int(step))
        mine = {name: value[rows] for name, value in plan.items()}
        chosen = mine["clip_id"][:, : spec.num_sources]
        return [read_crops(clips, chosen, offset[rows], length), *mine.values()]

    def make(step: tf.Tensor) -> dict[str, tf.Tensor]:
        seed = tf.stack([tf.constant(spec.seed, tf.int64), step])
        offset = mixing.draw_offset(mixing.fold_in(seed, 1), shape, reach)
        crops, *rest = call(fetch, (step, offset), _MIXTURE_TYPES)
        crops.set_shape((rows.stop - rows.start, spec.num_sources, length))
        gain = mixing.uniform(
            mixing.fold_in(seed, 2), shape, -spec.gain_db, spec.gain_db
        )
        knots = draw_knots(mixing.fold_in(seed, 3), shape, spec.eq_db, rows)
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
    views: int = 0,
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
      views: 0 draws clips at random; else all clips come in order, each this often.
      process_index: This host's number.
      process_count: How many hosts share a batch.

    Returns:
      A stream of dicts: what is ``heard`` of ``audio``, ``view`` (the same clip,
      augmented anew), ``positive`` (another clip of the class), ``negative``
      (another class, of the same family if it has one), all float32 [b, T];
      ``label``, ``text_id``,
      ``image_id`` (-1 where the class has none), all int32 [b].

    Raises:
      ValueError: a number that does not fit the data set or the hosts.
    """
    rows = host_rows(batch_size, process_index, process_count)
    index = Index(catalogue, split)
    if len(index.labels) < 2:
        raise ValueError(f"split {split!r} has fewer than 2 classes, expected more")
    if unknown := sorted(set(heard) - set(HEARD)):
        raise ValueError(f"heard is {unknown[0]!r}, expected some of {HEARD}")
    length = crop_samples(catalogue) if num_samples is None else num_samples
    reach, clips = furthest_offset(catalogue, length, None), catalogue.clips[split]
    shape = (batch_size, len(_DRAWN))
    own = [HEARD.index(name) for name in heard]
    marred = [place for place in own if HEARD[place] in _RESIDUE_OF]
    columns = own + [len(HEARD) + place for place in marred]

    def choose(step: int) -> dict[str, np.ndarray]:
        if not views:
            return plan_alignment(index, batch_size, seed, step)
        label = catalogue.clip_label[split]
        return plan_sweep(index, label, views, batch_size, seed, step)

    def fetch(step: np.int64, offset: np.ndarray) -> list[np.ndarray]:
        plan = choose(int(step))
        chosen = np.stack([plan[_DRAWN[column]] for column in columns], axis=1)
        crops = read_crops(clips, chosen[rows], offset[rows][:, columns], length)
        return [crops, *(plan[name][rows] for name in _ALIGNMENT_KEYS)]

    def make(step: tf.Tensor) -> dict[str, tf.Tensor]:
        base = tf.stack([tf.constant(seed, tf.int64), step])
        draw = [mixing.fold_in(base, stream) for stream in range(11, 16)]
        offset = mixing.draw_offset(draw[0], shape, reach)
        crops, *rest = call(fetch, (step, offset), [tf.int16] + 3 * [tf.int32])
        crops.set_shape((rows.stop - rows.start, len(columns), length))
        gain = mixing.uniform(draw[1], shape, -gain_db, gain_db)[rows]
        knots = draw_knots(draw[2], shape, eq_db, rows)
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
