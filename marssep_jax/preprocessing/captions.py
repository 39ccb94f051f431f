"""What every tokenizer here asks of a caption, and the rows they fill."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int


def require_words(caption: str, cleaned: str | None = None) -> None:
    """Check that a caption says something.

    Args:
      caption: as it was given; what the error message shows.
      cleaned: what is left of it after cleaning, if that differs.

    Raises:
      ValueError: nothing but white space, or text that is no valid Unicode, as an
        argument of the shell may be.
    """
    if not (caption if cleaned is None else cleaned).strip():
        raise ValueError(f"text is {caption[:80]!r}, expected at least one letter")
    if any("\ud800" <= letter <= "\udfff" for letter in caption):
        raise ValueError(f"text is {caption[:80]!r}, expected valid Unicode")


def pack_rows(
    pieces: Iterable[Sequence[int]], length: int, start: int, end: int, padding: int
) -> Int[np.ndarray, "m l"]:
    """Put start and end around each caption's ids and pad the rows.

    A caption that is too long loses its last pieces, never its end: the encoders
    read their vector there.

    Returns:
      int32 ``[m, length]``.
    """
    rows = [[start, *piece[: length - 2], end] for piece in pieces]
    packed = np.full((len(rows), length), padding, np.int32)
    for row, ids in zip(packed, rows, strict=True):
        row[: len(ids)] = ids
    return packed
