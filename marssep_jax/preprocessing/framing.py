"""Short-time power spectra, written once for NumPy and JAX.

The functions take the array module as ``xp``: with ``numpy`` they compute in float64
on the host, where files become features exactly; with ``jax.numpy`` in float32
inside a compiled update. Everything is slices, reshapes and one FFT: no gathers.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.fourier import rfft


def as_float32(waveform: Float[Array, "*b t"]) -> Float[Array, "*b t"]:
    """Return samples in float32: what bfloat16 cuts off is audible after a log.

    Raises:
      ValueError: not floating, or no samples.
    """
    _require_samples(waveform)
    return jnp.asarray(waveform, jnp.float32)


def as_float64(waveform: np.ndarray) -> np.ndarray:
    """Return samples in float64 on the host.

    Raises:
      ValueError: not floating, or no samples.
    """
    _require_samples(waveform)
    return np.asarray(waveform, np.float64)


def _require_samples(waveform: np.ndarray | jax.Array) -> None:
    shape, dtype = waveform.shape, waveform.dtype
    if not jnp.issubdtype(dtype, jnp.floating) or not shape or not shape[-1]:
        raise ValueError(
            f"waveform is {dtype} {shape}, expected floating [..., t] with t >= 1"
        )


def along_last(values: np.ndarray, like: Any, xp: Any) -> Any:
    """Return a constant as the last axis of an array's rank, in its type."""
    constant = xp.asarray(values, dtype=like.dtype)
    return constant.reshape((1,) * (like.ndim - 1) + (-1,))


def pad_end(signal: Any, count: int, xp: Any) -> Any:
    """Append zeros to the last axis."""
    return xp.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, count)])


def cut_frames(signal: Any, size: int, hop: int, num_frames: int, xp: Any) -> Any:
    """Cut ``[..., t]`` into frames ``[..., num_frames, size]``, one each ``hop``.

    A frame is laid together from hop-sized blocks. What lies after the signal's end
    is zero.
    """
    blocks = -(-size // hop)
    total = (num_frames - 1 + blocks) * hop
    signal = pad_end(signal[..., :total], max(total - signal.shape[-1], 0), xp)
    block = signal.reshape(*signal.shape[:-1], -1, hop)
    shifted = [block[..., r : r + num_frames, :] for r in range(blocks)]
    return xp.concatenate(shifted, axis=-1)[..., :size]


def power_spectrum(frames: Any, n_fft: int, xp: Any) -> Any:
    """Return |rfft|^2 ``[..., n_fft // 2 + 1]`` of frames padded to ``n_fft``.

    From the parts rather than the modulus, whose gradient is NaN at zero: silence
    must not break an update.
    """
    transform = rfft if xp is jnp else xp.fft.rfft
    spectrum = transform(frames, n_fft)
    return spectrum.real**2 + spectrum.imag**2
