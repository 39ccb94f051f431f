"""Cutting and joining windows."""

import numpy as np
import pytest

from marssep_jax.windows import cut_windows, fill_mirrored, join


def restored(recording, block, length, stride):
    blocks = [
        recording[:, start : start + block]
        for start in range(0, recording.shape[1], block)
    ]
    tail, parts = None, []
    for window in cut_windows(blocks, length, stride):
        assert window.samples.shape == (recording.shape[0], length)
        valid = window.samples[:, : window.num_valid]
        ready, tail = join(tail, valid, length - stride, window.is_last)
        parts.append(ready)
    assert tail is None
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("num_samples", [1, 2, 29, 39, 40, 41, 70, 71, 997])
@pytest.mark.parametrize("block", [1, 13, 1_000])
@pytest.mark.parametrize("stride", [30, 40])
def test_joined_windows_are_the_recording(num_samples, block, stride):
    recording = np.random.default_rng(0).normal(size=(2, num_samples))
    # A cross-fade of equal values: two roundings in float64.
    np.testing.assert_allclose(
        restored(recording, block, 40, stride), recording, atol=1e-14
    )


def test_windows_do_not_depend_on_the_blocks():
    recording = np.arange(500.0)[None]
    coarse = list(cut_windows([recording], 64, 48))
    fine = list(cut_windows(list(np.split(recording, 100, axis=1)), 64, 48))
    assert len(coarse) == len(fine) == 11  # 1 + ceil((500 - 64) / 48)
    for one, other in zip(coarse, fine, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
        assert one[1:] == other[1:]
    assert [w.is_last for w in coarse] == [False] * 10 + [True]


def test_join_moves_smoothly_from_one_piece_to_the_next():
    ready, tail = join(None, np.zeros(100), 40, False)
    fade, tail = join(tail, np.ones(100), 40, True)
    assert ready.tolist() == [0.0] * 60
    assert tail is None
    assert np.all(np.diff(fade) >= 0)
    # sin^2 climbs by at most pi/2 / overlap a sample: no step is heard.
    assert np.diff(fade).max() < 1.6 / 40
    assert fade[40:].tolist() == [1.0] * 60


def test_filling_mirrors_what_is_there():
    mono = np.array([1.0, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0])
    assert fill_mirrored(mono, 3).tolist() == [1, 2, 3, 3, 2, 1, 1]
    assert fill_mirrored(mono, 1).tolist() == [1] * 7
    assert fill_mirrored(mono, 7).tolist() == mono.tolist()
