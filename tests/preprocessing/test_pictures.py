"""Pictures of every kind become upright RGB bytes, or one clear error."""

import sys

import numpy as np
import pytest
from PIL import Image

from marssep_jax.preprocessing.pictures import read_picture, require_pixels


@pytest.fixture
def read(tmp_path):
    """Return a function that saves a picture as PNG and reads it."""

    def save_and_read(picture, **options):
        picture.save(tmp_path / "a.png", **options)
        return read_picture(tmp_path / "a.png")

    return save_and_read


def colours(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_rgb_stays_as_it_is(read):
    image = colours(5, 7, 3)
    np.testing.assert_array_equal(read(Image.fromarray(image)), image)


def test_grey_is_the_same_in_every_channel(read):
    image = colours(5, 7)
    expected = np.repeat(image[..., None], 3, axis=-1)
    np.testing.assert_array_equal(read(Image.fromarray(image)), expected)


def test_16_bit_grey_keeps_its_upper_byte(read):
    grey = np.array([[0, 255, 256, 32_768, 65_535]], np.uint16)
    assert read(Image.fromarray(grey))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_palettes_and_bits_are_looked_up(read):
    image = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    palette = Image.fromarray(image).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_array_equal(read(palette), image)
    bits = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    assert read(bits)[0, :, 1].tolist() == [0, 255]


def test_transparency_shows_white(read):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = 255, 0, 51  # black, nothing, a fifth of black
    assert read(Image.fromarray(rgba))[0, :, 0].tolist() == [0, 255, 204]
    named = Image.fromarray(np.array([[0, 255]], np.uint8))  # one colour is clear
    assert read(named, transparency=0)[0, :, 0].tolist() == [255, 255]


def test_exif_turns_upright(read):
    image = colours(2, 3, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn to the right
    turned = read(Image.fromarray(image), exif=exif)
    np.testing.assert_array_equal(turned, np.rot90(image, -1))


def test_cmyk_jpegs_are_read(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red = read_picture(tmp_path / "a.jpg")
    assert red.shape == (8, 8, 3)
    np.testing.assert_allclose(red[4, 4].astype(int), [255, 0, 0], atol=4)  # lossy


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("damage", ["text", "empty", "cut"])
def test_damaged_files_are_named(tmp_path, damage):
    path = tmp_path / "a.png"
    Image.fromarray(colours(40, 40, 3)).save(path)
    whole = path.read_bytes()
    path.write_bytes({"text": b"hello", "empty": b"", "cut": whole[:2_000]}[damage])
    with pytest.raises(ValueError, match=r"^--image is '.*a\.png', expected a reada"):
        read_picture(path, "--image")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"b\.png', expected an existing file"):
        read_picture(tmp_path / "b.png")
    with pytest.raises(IsADirectoryError, match="expected a file, not a folder"):
        read_picture(tmp_path)


def test_a_bomb_is_no_picture(tmp_path, monkeypatch):
    Image.new("1", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="expected a readable picture"):
        read_picture(tmp_path / "a.png")


def test_pixels_are_checked():
    require_pixels(colours(1, 1, 3))
    with pytest.raises(ValueError, match=r"frame is uint8 \(4, 4\), expected uint8 \["):
        require_pixels(colours(4, 4), "frame")


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    Image.new("1", (1, 1)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match="needs the package 'pillow'"):
        read_picture(tmp_path / "a.png")
