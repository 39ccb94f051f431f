"""CLIP's stills and ImageBind's film views, by hand and against other resizers."""

import jax
import numpy as np
import pytest
from PIL import Image

from marssep_jax.preprocessing.clip_pictures import (
    DEVIATION,
    MEAN,
    clip_picture,
    clip_video,
)


def colours(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def undo(values):
    """Return normalised values as bytes, not rounded."""
    return 255 * (np.asarray(values, np.float64) * DEVIATION + MEAN)


@pytest.mark.parametrize("shape", [(224, 224), (1, 1), (3, 2), (600, 400)])
def test_one_colour_stays_one_colour(shape):
    pixels = np.full((*shape, 3), [0, 128, 255], np.uint8)
    fitted = clip_picture(pixels)
    assert fitted.shape == (224, 224, 3)
    assert fitted.dtype == np.float32
    # 0 - 0.48145466 and so on, over the deviations.
    expected = [-1.7922626, (128 / 255 - 0.4578275) / 0.26130258, 2.1458970]
    np.testing.assert_allclose(fitted, np.broadcast_to(expected, fitted.shape), 1e-6)


def test_a_picture_of_the_right_size_is_only_normalised():
    pixels = colours(224, 224, 3)
    np.testing.assert_allclose(undo(clip_picture(pixels)), pixels, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "start"),
    [
        ((224, 227), 2),  # half of 3 is rounded to even: 2
        ((224, 229), 2),  # and half of 5
        ((224, 300), 38),
    ],
)
def test_the_middle_is_kept(shape, start):
    pixels = colours(*shape, 3)
    middle = pixels[:, start : start + 224]
    np.testing.assert_allclose(undo(clip_picture(pixels)), middle, atol=1e-4)
    high = undo(clip_picture(pixels.swapaxes(0, 1)))
    np.testing.assert_allclose(high, middle.swapaxes(0, 1), atol=1e-4)


def test_channel_first_twin_of_pillow():
    # 457 x 301: the longer side becomes 340.09, floored; 58 columns go on the left.
    pixels = colours(301, 457, 3)
    resized = Image.fromarray(pixels).resize((340, 224), Image.Resampling.BICUBIC)
    expected = np.asarray(resized)[:, 58:282].transpose(2, 0, 1) / 255
    expected = (expected - np.reshape(MEAN, (3, 1, 1))) / np.reshape(
        DEVIATION, (3, 1, 1)
    )
    ours = clip_picture(pixels).transpose(2, 0, 1)
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 4, 3)), r"--image is float64 \(4, 4, 3\), expected uint8 \[h"),
        (np.zeros((0, 4, 3), np.uint8), r"--image is uint8 \(0, 4, 3\), expected"),
        (
            np.zeros((2, 201, 3), np.uint8),
            "--image is 201 x 2 pixels, expected sides within a ratio of 100",
        ),
    ],
)
def test_what_is_no_picture_is_named(pixels, message):
    with pytest.raises(ValueError, match=message):
        clip_picture(pixels, "--image")


def film(num_frames, height, width):
    """Return frames whose red counts frames and whose green counts columns."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[..., 0] = np.arange(num_frames)[:, None, None]
    frames[..., 1] = np.arange(width) % 256
    return frames


def test_views_are_clip_major_and_hold_the_ends_of_each_clip():
    # 10 s at 20 frames a second: clips of 40 frames from 0, 40, 80, 120, 160.
    views = undo(clip_video(film(200, 224, 225), 20))
    assert views.shape == (15, 2, 224, 224, 3)
    frames = views[:, :, 0, 0, 0].reshape(5, 3, 2)
    for clip in range(5):
        expected = [[40 * clip, 40 * clip + 39]] * 3
        np.testing.assert_allclose(frames[clip], expected, atol=1e-4)


def test_three_crops_of_a_wide_film():
    # 7 columns too many: left 0, the middle at 4 (3.5 rounded up), right 7.
    views = undo(clip_video(film(1, 224, 231), 25, 1))
    assert views.shape == (3, 2, 224, 224, 3)
    np.testing.assert_allclose(views[:, 0, 0, 0, 1], [0, 4, 7], atol=1e-4)


def test_three_crops_of_a_high_film_and_of_a_square_one():
    high = film(1, 224, 231).swapaxes(1, 2)
    views = undo(clip_video(high, 25, 1))
    np.testing.assert_allclose(views[:, 0, 0, 0, 1], [0, 4, 7], atol=1e-4)
    square = clip_video(film(1, 224, 224), 25, 1)
    np.testing.assert_array_equal(square[0], square[1])
    np.testing.assert_array_equal(square[0], square[2])


@pytest.mark.parametrize(
    ("shape", "resized"),
    [
        ((300, 300), (224, 224)),
        ((1, 1), (224, 224)),
        ((100, 150), (224, 336)),
        ((500, 350), (320, 224)),
    ],
)
def test_frames_are_interpolated_without_smoothing(shape, resized):
    frames = colours(2, *shape, 3)
    views = undo(clip_video(frames, 1, 1))
    # JAX interpolates between pixel centres too, and is told not to smooth. Its
    # positions are float32: 3e-5 of a pixel at 300, times steps of up to 255.
    theirs = jax.image.resize(
        frames.astype(np.float32), (2, *resized, 3), "bilinear", antialias=False
    )
    np.testing.assert_allclose(views[0], theirs[:, :224, :224], atol=1e-2)
    np.testing.assert_allclose(views[2], theirs[:, -224:, -224:], atol=1e-2)


@pytest.mark.parametrize(
    ("frames", "rate_hz", "message"),
    [
        (np.zeros((0, 4, 4, 3), np.uint8), 25, r"frames is uint8 \(0, 4, 4, 3\), exp"),
        (np.zeros((4, 4, 3), np.uint8), 25, r"frames is uint8 \(4, 4, 3\), expected"),
        (np.zeros((2, 4, 4, 3)), 25, r"frames is float64 \(4, 4, 3\), expected uint8"),
        (np.zeros((2, 1, 101, 3), np.uint8), 25, "frames is 101 x 1 pixels, expected"),
        (np.zeros((2, 4, 4, 3), np.uint8), 0, "rate_hz is 0, expected a number above"),
    ],
)
def test_what_is_no_film_is_named(frames, rate_hz, message):
    with pytest.raises(ValueError, match=message):
        clip_video(frames, rate_hz)
