"""Read a picture of any kind as upright RGB bytes, for every encoder that sees."""

import io
import os
import warnings
from typing import Any

import numpy as np
from jaxtyping import UInt8

from marssep_jax.optional import shown

READABLE = "a readable picture (png, jpeg, webp, gif or bmp)"


def read_picture(
    path: str | os.PathLike[str] | io.BufferedIOBase, name: str = "path"
) -> UInt8[np.ndarray, "h w 3"]:
    """Read the first frame of a picture, grey, palette or transparent ones too.

    Turned upright as its EXIF data say, and laid on white where it is transparent:
    what lies under full transparency is arbitrary and was never meant to be seen.

    Args:
      path: file name, or a seekable binary file.
      name: what an error message calls the argument.

    Raises:
      FileNotFoundError, IsADirectoryError: nothing there, or a folder.
      ValueError: not a picture, a damaged one, or one of absurd size.
      ModuleNotFoundError: Pillow is missing.
    """
    label = f"{name} is {shown(path)}"
    if isinstance(path, (str, os.PathLike)):
        if os.path.isdir(path):
            raise IsADirectoryError(f"{label}, expected a file, not a folder")
        if not os.path.exists(path):
            raise FileNotFoundError(f"{label}, expected an existing file")
    image, image_ops = pillow()
    try:
        with warnings.catch_warnings():
            # A picture of hundreds of megapixels is an attack or a mistake.
            warnings.simplefilter("error")
            with image.open(path) as file:
                upright = image_ops.exif_transpose(file)
                picture = _eight_bits(upright, image).convert("RGBA")
    except (
        OSError,
        ValueError,
        SyntaxError,
        Warning,
        image.DecompressionBombError,
    ) as e:
        raise ValueError(f"{label}, expected {READABLE}") from e
    white = image.new("RGBA", picture.size, "white")
    return np.asarray(image.alpha_composite(white, picture).convert("RGB"), np.uint8)


def _eight_bits(picture: Any, image: Any) -> Any:
    """Keep the upper byte of 16-bit grey, which Pillow would clip to white."""
    if not picture.mode.startswith("I;16"):
        return picture
    return image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))


def require_pixels(pixels: np.ndarray, name: str = "pixels") -> None:
    """Check that an array is a picture.

    Raises:
      ValueError: not uint8 ``[h, w, 3]``, or empty.
    """
    formed = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[-1] == 3
    if not formed or not pixels.size:
        raise ValueError(
            f"{name} is {pixels.dtype} {pixels.shape}, expected uint8 [h, w, 3] with "
            "h, w >= 1"
        )


def pillow() -> tuple[Any, Any]:
    """Import Pillow's Image and ImageOps.

    Raises:
      ModuleNotFoundError: it is missing.
    """
    try:
        from PIL import Image, ImageOps  # heavy, and needed for pictures only
    except ImportError as error:
        raise ModuleNotFoundError(
            "reading pictures needs the package 'pillow'"
        ) from error
    return Image, ImageOps
