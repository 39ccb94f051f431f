"""What both networks do to a waveform before and after their layers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from marssep_jax.preprocessing.filterbanks import hz_filters
from marssep_jax.preprocessing.framing import (
    along_last,
    cut_frames,
    power_spectrum,
)

LEVEL_RMS = 0.1
"""Every waveform is brought to -20 dB of full scale: a judge hears what sounds, not
how loud. The published loaders do it by measures of loudness (aisfx) or leave
mastered music as it is (musicnn), which lies near it."""
COMPRESSION = 10_000.0
CLIPS_AT_ONCE = 16


def levelled(waveform: Float[Array, "*b t"]) -> Float[Array, "*b t"]:
    """Return waveforms of equal RMS; silence stays silence."""
    power = jnp.mean(waveform**2, axis=-1, keepdims=True)
    rms = jnp.sqrt(jnp.maximum(power, jnp.finfo(jnp.float32).tiny))
    return waveform * (LEVEL_RMS / rms)


def mel_power(
    waveform: Float[Array, "b t"],
    filters: Float[np.ndarray, "f m"],
    n_fft: int,
    hop: int,
) -> Float[Array, "b n m"]:
    """Return mel energies of centred frames, n = 1 + t // hop.

    Periodic Hann, zeros beyond both ends, power; the window is not normalised.
    """
    num_frames = 1 + waveform.shape[-1] // hop
    padded = jnp.pad(waveform, ((0, 0), (n_fft // 2, n_fft // 2)))
    frame = cut_frames(padded, n_fft, hop, num_frames, jnp)
    window = along_last(np.hanning(n_fft + 1)[:-1], frame, jnp)
    power = power_spectrum(frame * window, n_fft, jnp)
    return power @ jnp.asarray(filters, power.dtype)


def compressed(power: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Return log10(1 + 10000 x)."""
    return jnp.log10(1.0 + COMPRESSION * power)


def unit_sum_filters(
    num_mels: int, rate_hz: int, n_fft: int
) -> Float[np.ndarray, "f m"]:
    """Return HTK's triangles up to the Nyquist frequency, each of sum 1."""
    filters = hz_filters(num_mels, rate_hz, n_fft, 0.0, rate_hz / 2, "htk")
    return filters / filters.sum(axis=0)


def even_blocks(frames: Float[Array, "b n m"], size: int) -> Float[Array, "b k s m"]:
    """Cut frames into blocks of one size, evenly spaced from the first to the last.

    They overlap where the length is no multiple, and what is shorter than a block is
    repeated, so every frame is heard and none is made up.
    """
    count = frames.shape[1]
    if count < size:
        repeats = -(-size // count)
        return jnp.tile(frames, (1, repeats, 1))[:, None, :size]
    num_blocks = -(-count // size)
    starts = np.linspace(0, count - size, num_blocks).round().astype(int)
    return jnp.stack([frames[:, start : start + size] for start in starts], axis=1)


def convolve(
    value: Float[Array, "b h w c"], kernel: Float[Array, "i j c d"], padding: str
) -> Float[Array, "b h w d"]:
    """Convolve in two dimensions, channels last, stride 1."""
    return jax.lax.conv_general_dilated(
        value, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def heard_in_groups(
    hear: Callable[[Any], Any], waveform: Float[Array, "*b t"]
) -> Float[Array, "*b d"]:
    """Map ``[b, t] -> [b, d]`` over any leading axes, a few clips at a time.

    The layers of a hundred clips would take gigabytes.
    """
    flat = waveform.reshape(-1, waveform.shape[-1])
    found = jax.lax.map(
        lambda clip: hear(clip[None])[0],
        flat,
        batch_size=min(CLIPS_AT_ONCE, len(flat)),
    )
    return found.reshape(*waveform.shape[:-1], -1)
