"""Spectrograms and masks that are drawn while a recording goes by."""

import numpy as np
import pytest
from PIL import Image

from marssep_jax.config import FrontendConfig
from marssep_jax.features import grid_hz
from marssep_jax.serving.pictures import (
    GLOW,
    Columns,
    Spectrogram,
    decibels,
    save_png,
    ticks,
)

CONFIG = FrontendConfig(num_samples=4_096, num_rows=64)


@pytest.mark.parametrize("sizes", [(1,) * 90, (7, 1, 40, 42), (90,), (3, 87)])
def test_columns_are_averaged_however_they_arrive(sizes):
    wanted = np.random.default_rng(0).uniform(size=(2, 90)).astype(np.float32)
    columns = Columns(2, most=8)
    start = 0
    for size in sizes:
        columns.add(wanted[:, start : start + size])
        start += size
    # 90 columns, fewer than 16 kept: eights, and the two that are over.
    pooled = wanted[:, :88].reshape(2, 11, 8).mean(axis=2)
    wanted = np.concatenate([pooled, wanted[:, 88:].mean(axis=1)[:, None]], axis=1)
    # Means of means in float32.
    np.testing.assert_allclose(columns.cells(), wanted, rtol=1e-5)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("block", [100, 5_000, 1_000_000])
def test_a_tone_is_drawn_at_its_place(rate, block):
    time = np.arange(2 * rate) / rate
    tone = np.where(time < 1, np.sin(2 * np.pi * 1_000 * time), 0).astype(np.float32)
    spectrogram = Spectrogram(CONFIG, rate)
    for start in range(0, tone.size, block):
        spectrogram.add(tone[start : start + block])
    power = spectrogram.power()
    loud = power[:, : power.shape[1] // 2 - 1].mean(axis=1)
    row = np.argmin(np.abs(grid_hz(CONFIG) - 1_000))
    assert abs(int(np.argmax(loud)) - row) <= 1
    # The second half is silent.
    assert power[:, power.shape[1] // 2 + 2 :].max() < 1e-6 * power.max()
    if rate == 8_000:
        above = grid_hz(CONFIG) > 4_000
        assert above.any()
        assert not power[above].any()


def test_one_sample_has_a_picture():
    spectrogram = Spectrogram(CONFIG, 44_100)
    spectrogram.add(np.ones(1, np.float32))
    assert spectrogram.power().shape[1] >= 1


def test_decibels():
    power = np.array([[1.0, 10**-3.5, 1e-9, 0.0]], np.float32)
    np.testing.assert_allclose(decibels(power, 1.0), [[1, 0.5, 0, 0]], atol=1e-6)
    assert not decibels(power, 0.0).any()


def test_low_rows_are_at_the_bottom(tmp_path):
    save_png(tmp_path / "a.png", np.array([[0.0], [0.2], [1.0]]), GLOW)
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (3, 1, 3)
    assert "#" + bytes(pixels[0, 0]).hex() == GLOW[-1]
    assert "#" + bytes(pixels[2, 0]).hex() == GLOW[0]


def test_ticks_stand_where_the_grid_has_their_frequency():
    labels = dict((label, share) for share, label in ticks(CONFIG))
    assert list(labels) == [
        "50 Hz",
        "100 Hz",
        "200 Hz",
        "500 Hz",
        *(f"{k} kHz" for k in (1, 2, 5)),
    ]
    row = labels["1 kHz"] * (CONFIG.num_rows - 1)
    low, high = grid_hz(CONFIG)[[int(row), int(row) + 1]]
    assert low <= 1_000 <= high
