"""Filter a recording by a mask that grows with it, as one STFT would.

Masks come window by window and are joined on the model's grid; the recording itself is
never cut. Its STFT runs on from the first sample to the last, a fixed number of frames
at a time, so what comes out is what one transform of the whole recording with the
joined mask would give, in constant memory and with one compilation.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from marssep_jax.features import ENVELOPE_FLOOR, window_envelope
from marssep_jax.transfer import Transfer, read_columns


class Filtered(NamedTuple):
    """A stretch of the recording ``[channels, t]`` before and after."""

    mixture: Float[np.ndarray, "c t"]
    estimate: Float[np.ndarray, "c t"]


class RunningFilter:
    """Takes samples and mask columns as they become known, yields filtered samples.

    Equal to ``istft(spread(mask) * stft(recording))`` of `marssep_jax.features`, with
    the mask read at the frames' times. Positions below are those of the recording with
    half a window of zeros in front, in which frame n starts at ``n * hop``.
    """

    def __init__(self, transfer: Transfer, num_frames: int) -> None:
        """Start at the first sample.

        Args:
          transfer: to the recording's rate.
          num_frames: frames of a step, the shape that is compiled.
        """
        plan = transfer.plan
        self._transfer, self._num_frames = transfer, num_frames
        self._envelope = window_envelope(num_frames, plan.n_fft, plan.hop)
        self._advance = num_frames * plan.hop
        self._carry = np.zeros(0, np.float32), np.zeros(0)
        self._signal: np.ndarray | None = None
        self._mask: np.ndarray | None = None
        self._frame = self._first_column = 0
        # What has come in, and what went out; the half window in front is not wanted.
        self._num_in, self._num_out = 0, -(plan.n_fft // 2)

    def take(self, samples: Float[np.ndarray, "c _"]) -> None:
        """Take the next samples."""
        if self._signal is None:
            self._signal = np.zeros((samples.shape[0], -self._num_out), np.float32)
        self._signal = np.concatenate([self._signal, samples], axis=1)
        self._num_in += samples.shape[1]

    def push(self, columns: Float[np.ndarray, "h _"]) -> Iterator[Filtered]:
        """Take the next mask columns and yield what is final now, if anything."""
        known = columns[:, :0] if self._mask is None else self._mask
        self._mask = np.concatenate([known, columns], axis=1)
        while self._is_covered():
            part = self._step(self._num_frames)
            if part.mixture.shape[1]:  # the half window in front is none of it
                yield part

    def finish(self) -> Iterator[Filtered]:
        """Yield the rest in one piece, once the recording has ended."""
        if self._signal is None:
            return
        rest = []
        left = 1 + self._num_in // self._transfer.plan.hop - self._frame
        while left > 0:
            rest.append(self._step(min(left, self._num_frames)))
            left -= self._num_frames
        rest.append(self._emit(*self._carry))
        yield Filtered(
            *(np.concatenate(rows, axis=1) for rows in zip(*rest, strict=True))
        )

    def _is_covered(self) -> bool:
        """Whether samples and columns under the next step's frames are there."""
        assert self._signal is not None
        assert self._mask is not None
        known = self._first_column + self._mask.shape[1]
        return (
            self._signal.shape[1] >= self._envelope.size
            and self._positions()[-1] <= known - 1
        )

    def _positions(self) -> Float[np.ndarray, " n"]:
        frames = self._frame + np.arange(self._num_frames)
        return self._transfer.plan.columns_of(frames)

    def _step(self, num_valid: int) -> Filtered:
        """Filter under the next frames; those that are not valid count as none."""
        assert self._signal is not None
        assert self._mask is not None
        plan, size = self._transfer.plan, self._envelope.size
        columns = read_columns(self._mask, self._positions() - self._first_column)
        columns[:, num_valid:] = 0.0
        gain = self._transfer.spread(jnp.asarray(columns[None]))
        missing = max(size - self._signal.shape[1], 0)
        samples = np.pad(self._signal[:, :size], ((0, 0), (0, missing)))
        # Channel by channel: one compilation whatever their number, and less memory.
        rows = [
            np.asarray(self._transfer.apply(gain, jnp.asarray(row[None])))[0]
            for row in samples
        ]
        envelope = self._envelope
        if num_valid < self._num_frames:
            short = window_envelope(num_valid, plan.n_fft, plan.hop)
            envelope = np.pad(short, (0, size - short.size))
        added, weight = np.stack(rows), envelope.copy()
        carried, weight_carried = self._carry
        added[:, : weight_carried.size] += carried
        weight[: weight_carried.size] += weight_carried
        head = self._advance
        self._carry = added[:, head:], weight[head:]
        self._frame += self._num_frames
        drop = int(self._positions()[0]) - self._first_column
        drop = min(drop, self._mask.shape[1] - 1)
        self._mask, self._first_column = self._mask[:, drop:], self._first_column + drop
        return self._emit(added[:, :head], weight[:head])

    def _emit(self, added: np.ndarray, weight: np.ndarray) -> Filtered:
        """Return the samples that come next, and forget them."""
        assert self._signal is not None
        size = weight.size
        scale = 1.0 / np.where(weight > ENVELOPE_FLOOR, weight, 1.0)
        begin = max(-self._num_out, 0)
        end = max(begin, min(size, self._num_in - self._num_out))
        mixture = self._signal[:, begin:end]
        estimate = (added * scale.astype(np.float32))[:, begin:end]
        self._num_out += size
        self._signal = self._signal[:, size:]
        return Filtered(mixture, estimate)
