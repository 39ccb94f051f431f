"""Spectrograms and masks as pictures, drawn while a recording goes by.

The length of a recording is not known beforehand and may be hours at any rate, so
neighbouring columns are averaged as often as it takes to keep their number small.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from marssep_jax.config import FrontendConfig
from marssep_jax.features import averaging_matrix, grid_hz
from marssep_jax.preprocessing.pictures import pillow

MAX_COLUMNS = 1_000
# What lies this far below the mixture's loudest cell is drawn as silence.
RANGE_DB = 70.0
# From silence to loud; in between the colours are linear.
HEAT = ("#0b0d1a", "#2b1d5c", "#7a1f77", "#c8385a", "#f5803c", "#fde8a0")
GLOW = ("#0b0d1a", "#123a4a", "#1c8a86", "#9be8c4")
TICKS_HZ = (50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)


class Columns:
    """Columns ``[rows, any]`` that arrive in order, fewer than twice ``most`` kept."""

    def __init__(self, num_rows: int, most: int = MAX_COLUMNS) -> None:
        self._most = most
        self._stride = 1
        self._cells = np.zeros((num_rows, 0), np.float32)
        self._rest = self._cells

    def add(self, columns: Float[np.ndarray, "h _"]) -> None:
        """Append columns."""
        rest = np.concatenate([self._rest, columns], axis=1)
        self._append(rest)
        while self._cells.shape[1] >= 2 * self._most:
            pairs = self._cells.shape[1] // 2
            odd = self._cells[:, 2 * pairs :]
            rest = np.concatenate([np.repeat(odd, self._stride, 1), self._rest], axis=1)
            self._cells = _averaged(self._cells[:, : 2 * pairs], 2)
            self._stride *= 2
            self._append(rest)

    def _append(self, rest: Float[np.ndarray, "h _"]) -> None:
        whole = rest.shape[1] // self._stride * self._stride
        pooled = _averaged(rest[:, :whole], self._stride)
        self._cells = np.concatenate([self._cells, pooled], axis=1)
        self._rest = rest[:, whole:]

    def cells(self) -> Float[np.ndarray, "h w"]:
        """Return what arrived so far, averaged."""
        if not self._rest.shape[1]:
            return self._cells
        last = self._rest.mean(axis=1, keepdims=True)
        return np.concatenate([self._cells, last], axis=1)


def _averaged(cells: Float[np.ndarray, "h _"], by: int) -> Float[np.ndarray, "h _"]:
    return cells.reshape(cells.shape[0], -1, by).mean(axis=2, dtype=np.float32)


class Spectrogram:
    """Power on the rows of the model's grid, at a recording's own rate."""

    def __init__(self, config: FrontendConfig, rate_hz: int) -> None:
        wanted = config.n_fft * rate_hz / config.sample_rate_hz
        self._size = max(2 ** round(np.log2(wanted)), 64)
        self._window = np.hanning(self._size + 1)[:-1].astype(np.float32)
        num_bins = self._size // 2 + 1
        bins = grid_hz(config) * self._size / rate_hz
        matrix = averaging_matrix(np.minimum(bins, num_bins - 1), num_bins)
        matrix[bins > num_bins - 1] = 0.0  # nothing is recorded up there
        self._matrix = matrix.astype(np.float32)
        self._columns = Columns(config.num_rows)
        # Frames are centred: the first one is half before the beginning.
        self._rest = np.zeros(self._size // 2, np.float32)

    def add(self, mono: Float[np.ndarray, " t"]) -> None:
        """Hear more of the recording."""
        heard = np.concatenate([self._rest, mono])
        hop = self._size // 2
        num_frames = max((heard.size - self._size) // hop + 1, 0)
        if num_frames:
            frames = np.lib.stride_tricks.sliding_window_view(heard, self._size)
            spectrum = np.fft.rfft(frames[::hop] * self._window)
            power = np.square(np.abs(spectrum)).astype(np.float32)
            self._columns.add(self._matrix @ power.T)
        self._rest = heard[num_frames * hop :]

    def power(self) -> Float[np.ndarray, "h w"]:
        """Close the recording and return its power."""
        self.add(np.zeros(self._size - self._rest.size % self._size, np.float32))
        return self._columns.cells()


def decibels(
    power: Float[np.ndarray, "h w"], loudest: float
) -> Float[np.ndarray, "h w"]:
    """Map power to [0, 1]: 1 is ``loudest``, 0 is `RANGE_DB` below it."""
    if loudest <= 0.0:
        return np.zeros_like(power)
    floor = 10 ** (-RANGE_DB / 10)
    level = 10 * np.log10(np.maximum(power / loudest, floor))
    return np.clip(1 + level / RANGE_DB, 0.0, 1.0)


def save_png(
    path: str | os.PathLike[str],
    values: Float[np.ndarray, "h w"],
    colours: tuple[str, ...],
) -> None:
    """Draw values in [0, 1], the lowest row at the bottom."""
    image, _ = pillow()
    index = np.rint(np.clip(values, 0.0, 1.0) * 255).astype(np.uint8)
    picture = image.fromarray(np.ascontiguousarray(index[::-1]))
    picture.putpalette(_palette(colours))
    picture.save(Path(path), format="PNG")


def _palette(colours: tuple[str, ...]) -> bytes:
    stops = np.array([list(bytes.fromhex(colour[1:])) for colour in colours])
    at = np.linspace(0, len(colours) - 1, 256)
    channels = [np.interp(at, range(len(colours)), stop) for stop in stops.T]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()


def ticks(config: FrontendConfig) -> list[tuple[float, str]]:
    """Return heights in [0, 1] from the bottom, and the frequencies there."""
    rows = grid_hz(config)
    return [
        (
            round(float(np.interp(hz, rows, np.linspace(0, 1, rows.size))), 4),
            f"{hz // 1_000} kHz" if hz >= 1_000 else f"{hz} Hz",
        )
        for hz in TICKS_HZ
        if rows[0] < hz < rows[-1]
    ]
