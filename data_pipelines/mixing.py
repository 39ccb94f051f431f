"""TensorFlow operations that turn clips into sources and sources into mixtures.

All are stateless: what they draw depends on a seed of two integers only, and an
item's draw depends on its place in the whole batch, not on the host that holds
it. Levels are relative to full scale, spectra one-sided.
"""

import functools
import os

import numpy as np
import scipy.interpolate

from data_pipelines.levels import LEVEL

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # silences start-up chatter
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # one order of summation
import tensorflow as tf

RMS_FLOOR = 1e-4
"""A crop this quiet (10 dB below the quantiser's noise at LEVEL) is silence."""

NUM_KNOTS = 6
LOWEST_KNOT_HZ = 60.0


def keep_off_accelerators() -> None:
    """Leave every accelerator to JAX; harmless when called again."""
    try:
        tf.config.set_visible_devices([], "GPU")
        tf.config.set_visible_devices([], "TPU")
    except RuntimeError:  # devices are in use already: too late to hide them
        pass


def fold_in(seed: tf.Tensor, stream: int) -> tf.Tensor:
    """Derive an independent seed for one of several draws."""
    return tf.random.experimental.stateless_fold_in(seed, stream)


def uniform(
    seed: tf.Tensor, shape: tuple[int, ...], low: float, high: float
) -> tf.Tensor:
    """Draw uniform float32 by Philox, equal on every kind of device."""
    unit = tf.random.stateless_uniform(shape, seed, alg="philox")
    return low + (high - low) * unit


def normal(seed: tf.Tensor, shape: tuple[int, ...], scale: float) -> tf.Tensor:
    """Draw centred normal float32 by Philox."""
    return scale * tf.random.stateless_normal(shape, seed, alg="philox")


def draw_offset(seed: tf.Tensor, shape: tuple[int, ...], max_offset: int) -> tf.Tensor:
    """Draw crop offsets uniformly from 0 to ``max_offset``, both included."""
    return tf.random.stateless_uniform(
        shape, seed, minval=0, maxval=max_offset + 1, dtype=tf.int64, alg="philox"
    )


def from_db(decibel: tf.Tensor) -> tf.Tensor:
    """Turn a level in dB into an amplitude factor."""
    return tf.exp(decibel * np.float32(np.log(10.0) / 20.0))


def fft_length(num_samples: int) -> int:
    """Return the power of two that an equaliser of this length works with."""
    return 1 << (num_samples - 1).bit_length()


@functools.cache
def eq_basis(num_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Return the cubic spline basis of the equaliser over log-frequency.

    Knots lie evenly in log-frequency from 60 Hz to the Nyquist frequency; below
    the first knot the curve is flat.

    Args:
      num_samples: Length of the waveforms to equalise.
      sample_rate_hz: Their sampling rate.

    Returns:
      float32 [6, bins]: gain in dB = knot values times this matrix.
    """
    nyquist = sample_rate_hz / 2
    knots = np.log(np.geomspace(LOWEST_KNOT_HZ, nyquist, NUM_KNOTS))
    bins = np.linspace(0.0, nyquist, fft_length(num_samples) // 2 + 1)
    spline = scipy.interpolate.CubicSpline(knots, np.eye(NUM_KNOTS), bc_type="natural")
    return spline(np.log(np.maximum(bins, LOWEST_KNOT_HZ))).T.astype(np.float32)


def equalise(
    waveform: tf.Tensor, knots_db: tf.Tensor, sample_rate_hz: int
) -> tf.Tensor:
    """Filter each waveform by its own smooth zero-phase equaliser.

    The filter is applied in a spectrum of power-of-two length; its response is so
    short (the curve is smooth) that wrapping round the end is inaudible.

    Args:
      waveform: float32 [..., T].
      knots_db: Gains at the six knots, float32 [..., 6], in dB.
      sample_rate_hz: Sampling rate.

    Returns:
      float32 [..., T].
    """
    length = waveform.shape[-1]
    size = fft_length(length)
    curve = tf.linalg.matmul(knots_db, tf.constant(eq_basis(length, sample_rate_hz)))
    spectrum = tf.signal.rfft(waveform, [size])
    spectrum *= tf.cast(from_db(curve), tf.complex64)
    return tf.signal.irfft(spectrum, [size])[..., :length]


def normalise(waveform: tf.Tensor, level: float = LEVEL) -> tf.Tensor:
    """Scale each waveform to an RMS level; what is almost silent stays so."""
    rms = tf.sqrt(tf.reduce_mean(tf.square(waveform), axis=-1, keepdims=True))
    return waveform * (level / tf.maximum(rms, RMS_FLOOR))


def from_int16(clips: tf.Tensor) -> tf.Tensor:
    """Turn int16 samples into float32 in [-1, 1)."""
    return tf.cast(clips, tf.float32) * np.float32(2.0**-15)


def source(
    clips: tf.Tensor, gain_db: tf.Tensor, knots_db: tf.Tensor | None, rate: int
) -> tf.Tensor:
    """Equalise, bring to the common level and apply the gain.

    Args:
      clips: int16 [..., T].
      gain_db: float32 [...].
      knots_db: float32 [..., 6], or None for no equaliser.
      rate: Sampling rate in Hz.

    Returns:
      float32 [..., T].
    """
    waveform = from_int16(clips)
    if knots_db is not None:
        waveform = equalise(waveform, knots_db, rate)
    return normalise(waveform) * from_db(gain_db)[..., None]


def mix(sources: tf.Tensor) -> tf.Tensor:
    """Sum the sources [..., K, T] of each mixture to [..., T]."""
    return tf.reduce_sum(sources, axis=-2)
