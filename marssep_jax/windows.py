"""Cut recordings of any length into equal windows and join them again.

Plain NumPy. Memory holds a few windows, whatever the recording's length, and one
window shape means one compilation.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Window(NamedTuple):
    """One window ``[channels, length]``, zeros after ``num_valid`` samples."""

    samples: Float[np.ndarray, "c t"]
    num_valid: int
    is_last: bool


def cut_windows(
    blocks: Iterable[Float[np.ndarray, "c _"]], length: int, stride: int
) -> Iterator[Window]:
    """Yield overlapping windows of a recording that arrives in blocks.

    Window i starts at sample ``i * stride``. The last one is the first that
    reaches the end, so it always holds more than the overlap of valid samples.

    Args:
      blocks: arrays ``[channels, any]`` in order.
      length: samples of a window.
      stride: samples between windows, at most ``length``.
    """
    held = None
    for block in blocks:
        held = block if held is None else np.concatenate([held, block], axis=1)
        # Strictly more: whether a window is the last shows at the next sample.
        while held.shape[1] > length:
            yield Window(held[:, :length], length, False)
            held = held[:, stride:]
    if held is not None and held.shape[1]:
        missing = length - held.shape[1]
        yield Window(np.pad(held, ((0, 0), (0, missing))), held.shape[1], True)


def fill_mirrored(
    mono: Float[np.ndarray, " t"], num_valid: int
) -> Float[np.ndarray, " t"]:
    """Replace what follows the valid samples by their mirror image.

    A network that has met full windows is thus not shown an almost silent one at
    a recording's end, and no click arises where the two meet.
    """
    missing = mono.shape[0] - num_valid
    return np.pad(mono[:num_valid], (0, missing), mode="symmetric")


def join(
    tail: np.ndarray | None, piece: np.ndarray, overlap: int, is_last: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Cross-fade a piece onto the end of the piece before it.

    The fade is sin^2, its complement cos^2: equal pieces join without a trace.

    Args:
      tail: last ``overlap`` columns of the piece before, None at the start.
      piece: ``[..., columns]``, at least ``overlap`` of them.
      overlap: columns that two pieces share.
      is_last: no piece follows.

    Returns:
      What is final now, and the tail for the next call.
    """
    if tail is not None and overlap:
        fade = np.sin(0.5 * np.pi * (np.arange(overlap) + 0.5) / overlap) ** 2
        fade = fade.astype(piece.dtype)
        head = piece[..., :overlap]
        mixed = tail + fade * (head - tail)
        piece = np.concatenate([mixed, piece[..., overlap:]], axis=-1)
    if is_last:
        return piece, None
    split = piece.shape[-1] - overlap
    return piece[..., :split], piece[..., split:]
