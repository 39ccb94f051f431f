"""A log-mel spectrogram as the square picture that HTSAT looks at."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# PyTorch's; jax.image.resize has another one and does not align corners.
CUBIC_A = -0.75


@functools.cache
def bicubic_matrix(num_in: int, num_out: int) -> Float[np.ndarray, "o i"]:
    """Return the matrix of PyTorch's bicubic resize with aligned corners.

    Entry (o, i) is the weight of sample i at coordinate o (num_in - 1) /
    (num_out - 1). Coordinates are float32 on purpose: rounded otherwise, the result
    differs by 3e-4. Taps beyond an end repeat it.
    """
    step = np.float32(num_in - 1) / np.float32(max(num_out - 1, 1))
    source = step * np.arange(num_out, dtype=np.float32)
    first = np.floor(source)
    matrix = np.zeros((num_out, num_in), np.float32)
    for tap in (-1, 0, 1, 2):
        column = np.clip(first.astype(int) + tap, 0, num_in - 1)
        weight = _cubic(np.abs(source - first - np.float32(tap)))
        # Clipped taps fall on one column and add up.
        np.add.at(matrix, (np.arange(num_out), column), weight)
    return matrix


def _cubic(distance: np.ndarray) -> np.ndarray:
    a = np.float32(CUBIC_A)
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
    return np.where(distance <= 1, near, far)


def resize_time(
    features: Float[Array, "*b n m"], num_frames: int
) -> Float[Array, "*b o m"]:
    """Stretch the frames, axis -2, to ``num_frames``, o of them."""
    num_in = features.shape[-2]
    if num_in == num_frames:
        return features
    matrix = jnp.asarray(bicubic_matrix(num_in, num_frames), features.dtype)
    # Decibels span a hundred: bfloat16 products would be off by half of one.
    return jnp.einsum(
        "oi,...im->...om", matrix, features, precision=jax.lax.Precision.HIGHEST
    )


def fold_time(features: Float[Array, "*b n m"], size: int) -> Float[Array, "*b s s"]:
    """Cut the frames into size / m pieces and stack them along frequency.

    Row m c + f, column t of the result is frame ``size`` c + t, mel bin f.
    """
    *lead, _, num_bins = features.shape
    pieces = features.reshape(*lead, size // num_bins, size, num_bins)
    return jnp.swapaxes(pieces, -1, -2).reshape(*lead, size, size)
