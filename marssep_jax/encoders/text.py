"""Captions to token ids.

ByT5's tokenizer reads bytes and therefore needs no vocabulary file; the small
encoder hashes n-grams of these ids, so that unseen words still share pieces.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

PAD_ID = 0


@functools.cache
def _tokenizer() -> Any:
    # It would otherwise comment on the frameworks that are not there.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import ByT5Tokenizer  # heavy: only where text is read

    return ByT5Tokenizer(extra_ids=0)


def tokenise(captions: Sequence[str], length: int) -> np.ndarray:
    """Return int32 ids [m, length] of lower-cased captions, zero-padded.

    Raises:
      ValueError: an empty caption.
    """
    for caption in captions:
        if not caption.strip():
            raise ValueError(f"text is {caption!r}, expected at least one letter")
    clean = [" ".join(caption.lower().split()) for caption in captions]
    rows = _tokenizer()(
        clean, padding="max_length", truncation=True, max_length=length
    )["input_ids"]
    return np.asarray(rows, np.int32).reshape(len(clean), length)
