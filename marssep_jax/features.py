"""Signal front end: STFT, log-frequency grid and log magnitude, with inverses.

The settings are OmniSep's: centred frames over zero padding, a periodic Hann
window, magnitudes warped to rows that are evenly spaced in log-frequency.
Everything here is pure and differentiable; window, envelope and warp weights are
NumPy constants, made once for a configuration.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from marssep_jax.config import FrontendConfig
from marssep_jax.fourier import irfft, rfft
from marssep_jax.types import Features

GridFn = Callable[[Float[Array, "..."]], Float[Array, "..."]]

ENVELOPE_FLOOR = 1e-8
"""Below this summed squared window no frame reaches a sample: it is left as is."""


def _hann(n_fft: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)


def _blocks_per_frame(n_fft: int, hop: int) -> int:
    return -(-n_fft // hop)


def _along_last(values: np.ndarray, like: Array) -> Array:
    """Return a constant as a broadcastable last axis, in the array's real type."""
    constant = jnp.asarray(values, dtype=jnp.finfo(like.dtype).dtype)
    return constant.reshape((1,) * (like.ndim - 1) + (-1,))


def _check_waveform(waveform: Array, n_fft: int, hop: int) -> None:
    if not 0 < hop <= n_fft or n_fft % 2:
        raise ValueError(
            f"(n_fft, hop) is {(n_fft, hop)}, expected an even n_fft and hop in"
            f" [1, n_fft]"
        )
    if waveform.ndim < 1 or waveform.shape[-1] < 1:
        raise ValueError(
            f"waveform has shape {waveform.shape}, expected [..., T] with T >= 1"
        )
    if not jnp.issubdtype(waveform.dtype, jnp.floating):
        raise ValueError(f"waveform has dtype {waveform.dtype}, expected floating")


def stft(
    waveform: Float[Array, "*b t"], n_fft: int = 1024, hop: int = 256
) -> Complex[Array, "*b f n"]:
    """Transform to centred frames: zero padding, periodic Hann, no scaling.

    Frames are stacked from windowed hop-sized blocks rather than gathered: as fast
    forwards, and twice as fast backwards, where a gather becomes a scatter.

    Args:
      waveform: samples ``[..., T]``, floating.
      n_fft: window and transform length in samples, even.
      hop: samples between frames.

    Returns:
      ``[..., F, N]`` with ``F = n_fft // 2 + 1`` and ``N = 1 + T // hop``.

    Raises:
      ValueError: no samples, not floating, or lengths that do not fit.
    """
    _check_waveform(waveform, n_fft, hop)
    num_samples, blocks = waveform.shape[-1], _blocks_per_frame(n_fft, hop)
    num_frames = 1 + num_samples // hop
    total = (num_frames - 1 + blocks) * hop
    # The last frame may end before or after the right padding would.
    room = max(total - num_samples - n_fft // 2, 0)
    batch = [(0, 0)] * (waveform.ndim - 1)
    padded = jnp.pad(waveform, [*batch, (n_fft // 2, room)])[..., :total]
    return frame_spectra(padded, n_fft, hop)


def frame_spectra(
    padded: Float[Array, "*b t"], n_fft: int, hop: int
) -> Complex[Array, "*b f n"]:
    """Transform the frames that start at multiples of ``hop``, up to the last block.

    Args:
      padded: samples ``[..., (N - 1 + ceil(n_fft / hop)) * hop]``.
      n_fft: window and transform length in samples, even.
      hop: samples between frames.
    """
    blocks = _blocks_per_frame(n_fft, hop)
    block = padded.reshape(*padded.shape[:-1], -1, hop)
    num_frames = block.shape[-2] - blocks + 1
    window = np.pad(_hann(n_fft), (0, blocks * hop - n_fft)).reshape(blocks, hop)
    part = [
        block[..., r : r + num_frames, :] * _along_last(window[r], block)
        for r in range(blocks)
    ]
    frame = jnp.stack(part, axis=-2).reshape(*block.shape[:-2], num_frames, -1)
    spectrum = rfft(frame[..., :n_fft])
    return jnp.swapaxes(spectrum, -1, -2)


def window_envelope(num_frames: int, n_fft: int, hop: int) -> np.ndarray:
    """Return the sum of squared windows over the samples of `overlap_add`."""
    envelope = np.zeros((num_frames - 1 + _blocks_per_frame(n_fft, hop)) * hop)
    window = _hann(n_fft) ** 2
    for n in range(num_frames):
        envelope[n * hop : n * hop + n_fft] += window
    return envelope


@lru_cache(maxsize=32)
def _inverse_envelope(num_frames: int, n_fft: int, hop: int) -> np.ndarray:
    """Return 1 / (sum of squared windows) over the padded length."""
    envelope = window_envelope(num_frames, n_fft, hop)
    return 1.0 / np.where(envelope > ENVELOPE_FLOOR, envelope, 1.0)


def istft(
    stft: Complex[Array, "*b f n"], length: int, n_fft: int = 1024, hop: int = 256
) -> Float[Array, "*b t"]:
    """Invert `stft`: windowed overlap-add over the sum of squared windows.

    Exact to rounding for hops up to a quarter of the window. With longer ones the
    samples after the last frame's centre may lie under a vanishing window.

    Args:
      stft: centred frames ``[..., F, N]``.
      length: samples to return; what no frame reaches is zero.
      n_fft: window and transform length in samples, even.
      hop: samples between frames.

    Returns:
      ``[..., length]``, real.

    Raises:
      ValueError: F is not ``n_fft // 2 + 1``, or the length is not positive.
    """
    if stft.ndim < 2 or stft.shape[-2] != n_fft // 2 + 1:
        raise ValueError(
            f"stft has shape {stft.shape}, expected [..., {n_fft // 2 + 1}, N]"
            f" for n_fft = {n_fft}"
        )
    if length < 1:
        raise ValueError(f"length is {length}, expected >= 1")
    padded = overlap_add(stft, n_fft, hop)
    scale = _inverse_envelope(stft.shape[-1], n_fft, hop)
    padded = padded * _along_last(scale, padded)
    waveform = padded[..., n_fft // 2 : n_fft // 2 + length]
    missing = length - waveform.shape[-1]
    return jnp.pad(waveform, [*[(0, 0)] * (stft.ndim - 2), (0, missing)])


def overlap_add(
    stft: Complex[Array, "*b f n"], n_fft: int, hop: int
) -> Float[Array, "*b t"]:
    """Add up windowed inverse transforms; `window_envelope` is what ones would give.

    Args:
      stft: frames ``[..., F, N]``.
      n_fft: window and transform length in samples, even.
      hop: samples between frames.

    Returns:
      ``[..., (N - 1 + ceil(n_fft / hop)) * hop]``, real.
    """
    blocks = _blocks_per_frame(n_fft, hop)
    frame = irfft(jnp.swapaxes(stft, -1, -2), n_fft)
    frame = frame * _along_last(_hann(n_fft), frame)
    batch = [(0, 0)] * (frame.ndim - 2)
    frame = jnp.pad(frame, [*batch, (0, 0), (0, blocks * hop - n_fft)])
    # Block r of every frame lands r blocks later: a sum of shifted copies, which
    # beats a scatter.
    added = sum(
        jnp.pad(
            frame[..., r * hop : (r + 1) * hop], [*batch, (r, blocks - 1 - r), (0, 0)]
        )
        for r in range(blocks)
    )
    return jnp.asarray(added).reshape(*frame.shape[:-2], -1)


def row_positions(num_rows: int, num_bins: int, warp_base: float) -> np.ndarray:
    """Return the fractional bin each row reads.

    Row j reads ``(F - 1) (base^(j / (H - 1)) - 1) / (base - 1)``; for OmniSep's
    front end that is ``25.6 (21^(j / 255) - 1)``.
    """
    share = np.arange(num_rows) / (num_rows - 1)
    return (num_bins - 1) * np.expm1(share * np.log(warp_base)) / (warp_base - 1)


def bin_positions(num_rows: int, num_bins: int, warp_base: float) -> np.ndarray:
    """Return the fractional row each bin reads: `row_positions` inverted."""
    share = np.arange(num_bins) / (num_bins - 1)
    return (num_rows - 1) * np.log1p(share * (warp_base - 1)) / np.log(warp_base)


def grid_hz(config: FrontendConfig) -> np.ndarray:
    """Return the frequency of each row in Hz, float64 [H]."""
    bins = row_positions(config.num_rows, config.num_bins, config.warp_base)
    return bins * config.sample_rate_hz / config.n_fft


def averaging_matrix(positions: np.ndarray, num_source: int) -> np.ndarray:
    """Return a row-stochastic matrix of triangles around fractional positions.

    A triangle's feet stand on the neighbouring positions, or one source step away
    where those are closer, so that it is plain interpolation where the target is
    the finer grid and skips nothing where it is the coarser one.
    """
    gap = np.maximum(np.diff(positions), 1.0)
    left = np.concatenate([[1.0], gap])[:, None]
    right = np.concatenate([gap, [1.0]])[:, None]
    distance = np.arange(num_source)[None] - positions[:, None]
    weight = 1 - np.where(distance < 0, -distance / left, distance / right)
    weight = np.maximum(weight, 0.0)
    return weight / weight.sum(axis=1, keepdims=True)


def _resample(positions: np.ndarray, num_source: int, average: bool) -> GridFn:
    """Return the map that reads fractional positions of the axis before last."""
    if average:
        matrix = averaging_matrix(positions, num_source)

        def averaged(values: Float[Array, "*b f n"]) -> Float[Array, "*b h n"]:
            weight = jnp.asarray(matrix, values.dtype)
            return jnp.einsum(
                "hf,...fn->...hn", weight, values, precision=jax.lax.Precision.HIGHEST
            )

        return averaged
    low = np.clip(np.floor(positions).astype(np.int32), 0, num_source - 2)
    share = np.clip(positions - low, 0.0, 1.0)

    def interpolated(values: Float[Array, "*b f n"]) -> Float[Array, "*b h n"]:
        # Two gathered rows and a blend cost a fiftieth of the dense product.
        shape = (1,) * (values.ndim - 2) + (-1, 1)
        weight = jnp.asarray(share, values.dtype).reshape(shape)
        return values[..., low, :] * (1 - weight) + values[..., low + 1, :] * weight

    return interpolated


class Frontend(NamedTuple):
    """The front end of one configuration, as pure functions.

    ``analyse``: waveform ``[..., T]`` -> `Features` (any T; W = N follows it);
    ``to_grid``: magnitude ``[..., F, N]`` -> ``[..., H, W]``;
    ``from_grid``: mask ``[..., H, W]`` -> ``[..., F, N]``.
    """

    config: FrontendConfig
    analyse: Callable[[Float[Array, "..."]], Features]
    to_grid: GridFn
    from_grid: GridFn


def _checked(resample: GridFn, name: str, size: int) -> GridFn:
    def apply(values: Float[Array, "..."]) -> Float[Array, "..."]:
        if values.ndim < 2 or values.shape[-2] != size:
            raise ValueError(
                f"{name} has shape {values.shape}, expected [..., {size}, N]"
            )
        return resample(values)

    return apply


def make_frontend(config: FrontendConfig) -> Frontend:
    """Build the front end of a configuration.

    Raises:
      ValueError: fewer than two rows, or a warp base that is not above 1.
    """
    if config.num_rows < 2:
        raise ValueError(f"num_rows is {config.num_rows}, expected >= 2")
    if not config.warp_base > 1:
        raise ValueError(f"warp_base is {config.warp_base}, expected > 1")
    num_rows, num_bins = config.num_rows, config.num_bins
    grid = (num_rows, num_bins, config.warp_base)
    warp = _resample(row_positions(*grid), num_bins, config.average_rows)
    unwarp = _resample(bin_positions(*grid), num_rows, config.average_rows)
    to_grid = _checked(warp, "magnitude", num_bins)

    def analyse(waveform: Float[Array, "*b t"]) -> Features:
        spectrum = stft(waveform, config.n_fft, config.hop)
        # The floor goes in before the warp, as OmniSep has it.
        magnitude = to_grid(jnp.abs(spectrum) + config.log_floor)
        return Features(spectrum, magnitude, jnp.log(magnitude))

    return Frontend(config, analyse, to_grid, _checked(unwarp, "mask", num_rows))
