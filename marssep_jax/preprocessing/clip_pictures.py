"""Pictures and films as CLIP-style encoders, ImageBind's among them, see them.

Host NumPy and Pillow; results are float32, channels last, normalised by CLIP's
colour statistics. The still's pipeline is bit for bit torchvision's.
"""

from fractions import Fraction

import numpy as np
from jaxtyping import Float, UInt8

from marssep_jax.preprocessing.clips import clip_spans
from marssep_jax.preprocessing.pictures import pillow, require_pixels

SIZE = 224
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
MAX_SIDE_RATIO = 100
"""Beyond this the resized picture would take gigabytes for a square of its middle."""
VIDEO_CLIPS = 5
FRAMES_PER_CLIP = 2


def _normalise(pixels: np.ndarray) -> Float[np.ndarray, "... 3"]:
    """Normalise values in [0, 1], in float32 as the reference does."""
    mean, deviation = np.asarray(MEAN, np.float32), np.asarray(DEVIATION, np.float32)
    return (pixels.astype(np.float32) - mean) / deviation


def _resized_sides(height: int, width: int, name: str) -> tuple[int, int]:
    """Return the sides once the shorter is 224, the longer one floored."""
    short, long = sorted((height, width))
    if long > MAX_SIDE_RATIO * short:
        raise ValueError(
            f"{name} is {width} x {height} pixels, expected sides within a ratio of "
            f"{MAX_SIDE_RATIO}"
        )
    longer = SIZE * long // short
    return (SIZE, longer) if height <= width else (longer, SIZE)


def crop_picture(
    pixels: np.ndarray, name: str = "pixels"
) -> UInt8[np.ndarray, "224 224 3"]:
    """Resize a picture and keep its middle.

    Pillow's bicubic filter brings the shorter side to 224; the square begins at half
    of what is left over, rounded to even at a tie.

    Args:
      pixels: uint8 ``[h, w, 3]``, as `read_picture` returns.
      name: what an error message calls the argument.

    Raises:
      ValueError: not uint8 ``[h, w, 3]``, empty, or a strip.
    """
    require_pixels(pixels, name)
    height, width = _resized_sides(pixels.shape[0], pixels.shape[1], name)
    image, _ = pillow()
    resized = image.fromarray(pixels).resize((width, height), image.Resampling.BICUBIC)
    top, left = round((height - SIZE) / 2), round((width - SIZE) / 2)
    return np.asarray(resized)[top : top + SIZE, left : left + SIZE]


def clip_picture(
    pixels: np.ndarray, name: str = "pixels"
) -> Float[np.ndarray, "224 224 3"]:
    """Return `crop_picture`, normalised; it raises what that does."""
    square = crop_picture(pixels, name)
    return _normalise(square.astype(np.float32) / np.float32(255))


def clip_video(
    frames: np.ndarray,
    rate_hz: int | float | Fraction,
    num_clips: int = VIDEO_CLIPS,
    name: str = "frames",
) -> Float[np.ndarray, "v 2 224 224 3"]:
    """Return ImageBind's views of a decoded film: each clip at three places.

    Of each of the evenly spread clips of 2 s the first and the last frame are
    resized, and cropped at the start, the middle and the end of the longer side
    (left to right, or top to bottom). Clips come in order of time, the three crops
    of one clip together. ImageBind's vector of the film is the mean over views.

    Args:
      frames: uint8 ``[t, h, w, 3]``.
      rate_hz: frames a second.
      num_clips: clips.
      name: what an error message calls the argument.

    Returns:
      ``[3 num_clips, 2, 224, 224, 3]``.

    Raises:
      ValueError: not uint8 ``[t, h, w, 3]``, empty, a strip, or a number that is
        not positive.
    """
    if frames.ndim != 4 or not len(frames):
        raise ValueError(
            f"{name} is {frames.dtype} {frames.shape}, expected uint8 [t, h, w, 3] "
            "with t, h, w >= 1"
        )
    require_pixels(frames[0], name)
    views = []
    for first, last in clip_spans(len(frames), rate_hz, num_clips):
        # linspace(0, n - 1, 2), truncated: the two ends.
        pair = frames[[first, last - 1]]
        height, width = _resized_sides(pair.shape[1], pair.shape[2], name)
        resized = _bilinear(pair / 255.0, height, width)
        views += [_normalise(crop) for crop in _three_crops(resized)]
    return np.stack(views)


def _bilinear(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Interpolate ``[t, h, w, c]`` between pixel centres, without smoothing first."""
    for axis, size in ((1, height), (2, width)):
        source = pixels.shape[axis]
        position = (np.arange(size) + 0.5) * source / size - 0.5
        position = np.clip(position, 0.0, source - 1.0)
        low = np.minimum(position.astype(int), max(source - 2, 0))
        share = (position - low).reshape((-1,) + (1,) * (3 - axis))
        above = pixels.take(np.minimum(low + 1, source - 1), axis)
        pixels = (1.0 - share) * pixels.take(low, axis) + share * above
    return pixels


def _three_crops(pixels: np.ndarray) -> list[np.ndarray]:
    *_, height, width, _ = pixels.shape
    room = max(height, width) - SIZE
    starts = (0, -(-room // 2), room)
    if height > width:
        return [pixels[:, start : start + SIZE] for start in starts]
    return [pixels[:, :, start : start + SIZE] for start in starts]
