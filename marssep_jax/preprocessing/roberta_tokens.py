"""Captions to RoBERTa's byte-pair ids, as CLAP's text tower reads them.

The vocabulary belongs to a checkpoint and is read from its folder.
"""

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from marssep_jax.optional import import_package, one_line
from marssep_jax.preprocessing.captions import pack_rows, require_words

TEXT_LENGTH = 77
"""LAION's; RoBERTa has positions for 512, and padding does not change the vector."""
START, END, PADDING = "<s>", "</s>", "<pad>"
PURPOSE = "reading captions for CLAP"

Tokenise = Callable[[Sequence[str]], Int[np.ndarray, "m l"]]


@functools.lru_cache(maxsize=4)
def make_roberta_tokenizer(
    folder: str | os.PathLike[str], length: int = TEXT_LENGTH
) -> Tokenise:
    """Build ``tokenise(captions) -> int32 ids [m, length]`` of a checkpoint.

    A row is start, at most ``length - 2`` pieces, end, padding. A special token
    spelt out in a caption is read as the letters it is made of.

    Args:
      folder: holds tokenizer.json, or vocab.json and merges.txt.
      length: ids in a row, at least 3.

    Raises:
      FileNotFoundError: no such folder, or none of these files in it.
      ValueError: damaged files, a vocabulary without RoBERTa's special tokens, or a
        length under 3; and by ``tokenise``, a caption without words.
      ModuleNotFoundError: tokenizers is missing.
    """
    if length < 3:
        raise ValueError(f"length is {length}, expected at least 3")
    encoder = _read_encoder(Path(folder))
    special = {token: encoder.token_to_id(token) for token in (START, END, PADDING)}
    for token, number in special.items():
        if number is None:
            raise ValueError(
                f"folder is {os.fspath(folder)!r}, expected a vocabulary with {token}"
            )
    start, end, padding = special.values()

    def tokenise(captions: Sequence[str]) -> np.ndarray:
        for caption in captions:
            require_words(caption)
        encoded = encoder.encode_batch(list(captions), add_special_tokens=False)
        return pack_rows((row.ids for row in encoded), length, start, end, padding)

    return tokenise


def _read_encoder(folder: Path) -> Any:
    """Return a tokenizers.Tokenizer that knows no special tokens in captions."""
    tokenizers = import_package("tokenizers", PURPOSE)
    whole, vocab, merges = (
        folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt")
    )
    try:
        if whole.is_file():
            encoder = tokenizers.Tokenizer.from_file(str(whole))
            encoder.encode_special_tokens = True
            encoder.no_truncation()
            encoder.no_padding()
        elif vocab.is_file() and merges.is_file():
            json.loads(vocab.read_bytes())  # says what is wrong better than the next
            model = tokenizers.models.BPE.from_file(str(vocab), str(merges))
            encoder = tokenizers.Tokenizer(model)
            encoder.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
                add_prefix_space=False
            )
        else:
            raise FileNotFoundError(
                f"folder is {str(folder)!r}, expected a checkpoint's folder with "
                "tokenizer.json, or with vocab.json and merges.txt"
            )
    except FileNotFoundError:
        raise
    except Exception as error:  # tokenizers raises no narrower class
        raise ValueError(
            f"folder is {str(folder)!r}, expected readable tokenizer files "
            f"({one_line(error)})"
        ) from error
    return encoder
