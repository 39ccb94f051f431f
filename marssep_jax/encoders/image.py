"""Read a picture the way the small encoder sees it."""

import os
import warnings
from typing import Any

import numpy as np
from jaxtyping import UInt8

READABLE = "a readable picture (png, jpeg, webp, gif or bmp)"


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
      FileNotFoundError, IsADirectoryError: nothing there, or a folder.
      ValueError: not a picture.
      ModuleNotFoundError: Pillow is missing.
    """
    label = f"{name} is {os.fspath(path)!r}"
    if os.path.isdir(path):
        raise IsADirectoryError(f"{label}, expected a file, not a folder")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{label}, expected an existing file")
    image, image_ops = _pillow()
    try:
        with warnings.catch_warnings():
            # A picture of hundreds of megapixels is an attack or a mistake.
            warnings.simplefilter("error")
            with image.open(path) as file:
                picture = image_ops.exif_transpose(file).convert("RGBA")
    except (
        OSError,
        ValueError,
        SyntaxError,
        Warning,
        image.DecompressionBombError,
    ) as e:
        raise ValueError(f"{label}, expected {READABLE}") from e
    return _square(picture, size)


def fit_image(
    pixels: np.ndarray, size: int, name: str = "pixels"
) -> UInt8[np.ndarray, "s s 3"]:
    """Crop pixels uint8 ``[h, w, 3]`` to their central square and resize them.

    Raises:
      ValueError: not uint8 ``[h, w, 3]``, or empty.
    """
    formed = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[-1] == 3
    if not formed or not pixels.size:
        raise ValueError(
            f"{name} is {pixels.dtype} {pixels.shape}, expected uint8 [h, w, 3] with "
            "h, w >= 1"
        )
    image, _ = _pillow()
    return _square(image.fromarray(pixels).convert("RGBA"), size)


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps  # heavy, and needed for pictures only
    except ImportError as error:
        raise ModuleNotFoundError(
            "reading pictures needs the package 'pillow'"
        ) from error
    return Image, ImageOps


def _square(picture: Any, size: int) -> np.ndarray:
    image, image_ops = _pillow()
    white = image.new("RGBA", picture.size, "white")
    flat = image.alpha_composite(white, picture).convert("RGB")
    fitted = image_ops.fit(flat, (size, size), image.Resampling.LANCZOS)
    return np.asarray(fitted, np.uint8)
