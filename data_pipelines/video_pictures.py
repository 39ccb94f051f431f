"""Pictures of videos as small JPEG files."""

import io
import pathlib

import numpy as np
from PIL import Image, ImageOps

PICTURE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp"))
JPEG_QUALITY = 92


def to_jpeg(picture: Image.Image, size: int) -> bytes:
    """Return the central square of a picture, resized, as a JPEG file."""
    square = ImageOps.fit(
        picture.convert("RGB"), (size, size), Image.Resampling.BICUBIC
    )
    file = io.BytesIO()
    square.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def from_jpeg(data: bytes) -> np.ndarray:
    """Return a picture, uint8 [S, S, 3]."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"), np.uint8)


def read_frames(folder: pathlib.Path, size: int) -> tuple[tuple[bytes, ...], str]:
    """Read frames that were extracted before; without any that is damaged."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    found = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                found.append(to_jpeg(picture, size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return (), f"pictures: {path.name} cannot be read"
    return tuple(found), "" if found else "pictures: the folder of frames is empty"
