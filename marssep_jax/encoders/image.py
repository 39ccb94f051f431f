"""Pictures the way the small encoder sees them."""

import os

import numpy as np
from jaxtyping import UInt8

from marssep_jax.preprocessing.pictures import pillow, read_picture, require_pixels


def load_image(
    path: str | os.PathLike[str], size: int, name: str = "path"
) -> UInt8[np.ndarray, "s s 3"]:
    """Read a picture as a square of RGB bytes.

    Turned upright, laid on white where it is transparent, cropped to its central
    square and resized.

    Args:
      path: file name.
      size: pixels of a side, the encoder's ``image_size``.
      name: what an error message calls the argument.

    Raises:
      FileNotFoundError, IsADirectoryError, ValueError, ModuleNotFoundError: as
        `read_picture`.
    """
    return fit_image(read_picture(path, name), size, name)


def fit_image(
    pixels: np.ndarray, size: int, name: str = "pixels"
) -> UInt8[np.ndarray, "s s 3"]:
    """Crop pixels uint8 ``[h, w, 3]`` to their central square and resize them.

    Raises:
      ValueError: not uint8 ``[h, w, 3]``, or empty.
    """
    require_pixels(pixels, name)
    image, image_ops = pillow()
    fitted = image_ops.fit(
        image.fromarray(pixels), (size, size), image.Resampling.LANCZOS
    )
    return np.asarray(fitted, np.uint8)
