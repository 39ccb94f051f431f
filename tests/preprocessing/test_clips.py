"""Where clips lie: exact positions, whole coverage, the same for NumPy and JAX."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marssep_jax.preprocessing.clips import (
    CLAP_WINDOW_SAMPLES,
    clap_windows,
    clip_spans,
    imagebind_clips,
    remove_clip_mean,
    repeat_pad,
)


@pytest.mark.parametrize(
    ("length", "starts"),
    [
        (32_000, [0, 0, 0]),
        (32_001, [0, 0, 1]),  # half a sample is cut off
        (116_800, [0, 42_400, 84_800]),  # 7.3 s: (7.3 - 2) / 2 = 2.65 s
        (160_000, [0, 64_000, 128_000]),
    ],
)
def test_three_clips_by_hand(length, starts):
    expected = [(start, start + 32_000) for start in starts]
    assert clip_spans(length, 16_000, 3) == expected


def test_short_recordings_are_heard_three_times():
    assert clip_spans(31_999, 16_000, 3) == [(0, 31_999)] * 3
    assert clip_spans(1, 16_000, 3) == [(0, 1)] * 3


def test_five_clips_of_a_film():
    assert clip_spans(300, 30, 5) == [(60 * i, 60 * i + 60) for i in range(5)]
    # 10.01 s of 30000/1001 frames a second: a clip has 59.94 frames, and starts at
    # multiples of 2.0025 s = 60.01 frames.
    spans = clip_spans(300, Fraction(30_000, 1_001), 5)
    assert spans == [(0, 59), (60, 119), (120, 179), (180, 239), (240, 300)]
    assert clip_spans(1, 0.1, 5) == [(0, 1)] * 5


@given(
    length=st.integers(1, 10**7),
    rate_hz=st.integers(1, 50_000),
    num_clips=st.integers(1, 9),
)
def test_clips_cover_both_ends_evenly(length, rate_hz, num_clips):
    spans = clip_spans(length, rate_hz, num_clips)
    assert len(spans) == num_clips
    size = min(length, 2 * rate_hz)
    assert {last - first for first, last in spans} == {size}
    assert spans[0][0] == 0
    if num_clips > 1:
        assert spans[-1][1] == length
        # Integers alone: no clip is half a sample away from its exact place.
        room = max(length - 2 * rate_hz, 0)
        starts = [i * room // (num_clips - 1) for i in range(num_clips)]
        assert [first for first, _ in spans] == starts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 16_000, 3), "length is 0, expected a number above 0"),
        ((9, 0, 3), "rate_hz is 0, expected"),
        ((9, float("nan"), 3), "rate_hz is nan, expected"),
        ((9, 16_000, 0), "num_clips is 0, expected"),
        ((9, 16_000, 3, 0), "seconds is 0, expected"),
    ],
)
def test_what_is_not_positive_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        clip_spans(*arguments)


def test_imagebind_clips_are_exact_copies(noise):
    waveform = noise(2, 70_001)
    clips = imagebind_clips(waveform, 16_000)
    assert clips.shape == (2, 3, 32_000)
    for i, start in enumerate([0, 19_000, 38_001]):
        np.testing.assert_array_equal(clips[:, i], waveform[:, start : start + 32_000])
    compiled = jax.jit(imagebind_clips, static_argnums=1)(waveform, 16_000)
    assert isinstance(compiled, jax.Array)
    np.testing.assert_array_equal(compiled, clips)


def test_clip_mean_is_over_channels_and_samples():
    clips = np.array([[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]])
    # Means 3 and 1.
    expected = [[[-2.0, -1.0], [0.0, 3.0]], [[-1.0, -1.0], [-1.0, 3.0]]]
    np.testing.assert_array_equal(remove_clip_mean(clips), expected)
    np.testing.assert_array_equal(remove_clip_mean(jnp.asarray(clips)), expected)


def test_repeat_pad_by_hand():
    clip = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(repeat_pad(clip, 8), [1, 2, 3, 1, 2, 3, 0, 0])
    np.testing.assert_array_equal(repeat_pad(clip, 3), clip)
    np.testing.assert_array_equal(repeat_pad(clip, 5), [1, 2, 3, 0, 0])
    rows = repeat_pad(jnp.asarray([clip, -clip]), 7)
    np.testing.assert_array_equal(rows, [[1, 2, 3, 1, 2, 3, 0]] * np.array([[1], [-1]]))


def test_repeat_pad_names_what_does_not_fit():
    with pytest.raises(ValueError, match="waveform has 3 samples, expected 1 to 2"):
        repeat_pad(np.zeros(3), 2)
    with pytest.raises(ValueError, match="waveform has 0 samples, expected 1 to 2"):
        repeat_pad(np.zeros(0), 2)


@pytest.mark.parametrize(
    ("length", "weight"),
    [
        (144_000, [1.0]),
        (480_000, [1.0]),
        (480_001, [480_000 / 480_001, 1 / 480_001]),
        (1_200_000, [0.4, 0.4, 0.2]),
    ],
)
def test_clap_hears_every_sample_once(length, weight):
    waveform = np.arange(1, length + 1, dtype=np.float32)[None]
    windows = clap_windows(waveform)
    assert windows.samples.shape == (1, len(weight), CLAP_WINDOW_SAMPLES)
    np.testing.assert_allclose(windows.weight, weight, rtol=1e-6)
    held = [min(480_000, length - 480_000 * k) for k in range(len(weight))]
    heard = [windows.samples[0, k, :count] for k, count in enumerate(held)]
    np.testing.assert_array_equal(np.concatenate(heard), waveform[0])
    last = windows.samples[0, -1]
    np.testing.assert_array_equal(last, repeat_pad(heard[-1], 480_000))


def test_clap_windows_compile(noise):
    waveform = noise(480_010)
    windows = jax.jit(lambda w: clap_windows(w).samples)(waveform)
    np.testing.assert_array_equal(windows, clap_windows(waveform).samples)


def test_clap_windows_want_sound():
    with pytest.raises(ValueError, match=r"waveform has shape \(2, 0\), expected"):
        clap_windows(np.zeros((2, 0)))
