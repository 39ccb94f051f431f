"""Tokenizers that belong to a checkpoint, read from its folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from marssep_jax.optional import import_package, one_line
from marssep_jax.preprocessing.captions import pack_rows, require_words

Tokenise = Callable[[Sequence[str]], Int[np.ndarray, "m l"]]
WHOLE = "tokenizer.json"


class Vocabulary(NamedTuple):
    """How some model's captions become ids.

    Attributes:
      purpose: what an error says the tokenizer is needed for.
      parts: files that stand for a missing tokenizer.json.
      build: from the package ``tokenizers`` and their paths to a Tokenizer.
      special: the tokens for start, end and padding.
    """

    purpose: str
    parts: tuple[str, ...]
    build: Callable[..., Any]
    special: tuple[str, str, str]


def make_tokeniser(
    kind: Vocabulary, folder: Path, length: int, max_words: int | None = None
) -> Tokenise:
    """Build ``tokenise(captions) -> int32 ids [m, length]`` of a checkpoint.

    A row is start, at most ``length - 2`` pieces, end, padding. A special token
    spelt out in a caption is read as the letters it is made of.

    Args:
      kind: the model's.
      folder: holds its files.
      length: ids in a row, at least 3.
      max_words: rows of the model's table; None does not ask.

    Raises:
      FileNotFoundError: no such folder, or no tokenizer in it.
      ValueError: damaged files, a vocabulary without the special tokens or with
        more words than the table, or a length under 3; and by ``tokenise``, a
        caption without words.
      ModuleNotFoundError: tokenizers is missing.
    """
    if length < 3:
        raise ValueError(f"length is {length}, expected at least 3")
    encoder = _read_encoder(kind, folder)
    ids = [encoder.token_to_id(token) for token in kind.special]
    if None in ids:
        missing = kind.special[ids.index(None)]
        raise ValueError(
            f"folder is {str(folder)!r}, expected a vocabulary with {missing}"
        )
    words = encoder.get_vocab_size()
    if max_words is not None and words > max_words:
        raise ValueError(
            f"folder is {str(folder)!r}, expected a tokenizer of at most {max_words} "
            f"words as the weights have, found {words}"
        )

    def tokenise(captions: Sequence[str]) -> np.ndarray:
        for caption in captions:
            require_words(caption)
        encoded = encoder.encode_batch(list(captions), add_special_tokens=False)
        return pack_rows((row.ids for row in encoded), length, *ids)

    return tokenise


def _read_encoder(kind: Vocabulary, folder: Path) -> Any:
    """Return a tokenizers.Tokenizer that knows no special tokens in captions."""
    tokenizers = import_package("tokenizers", kind.purpose)
    whole, parts = folder / WHOLE, [folder / name for name in kind.parts]
    try:
        if whole.is_file():
            encoder = tokenizers.Tokenizer.from_file(str(whole))
            encoder.encode_special_tokens = True
            encoder.no_truncation()
            encoder.no_padding()
        elif all(part.is_file() for part in parts):
            encoder = kind.build(tokenizers, *parts)
        else:
            raise FileNotFoundError(
                f"folder is {str(folder)!r}, expected a checkpoint's folder with "
                f"{WHOLE}, or with {' and '.join(kind.parts)}"
            )
    except FileNotFoundError:
        raise
    except Exception as error:  # tokenizers raises no narrower class
        raise ValueError(
            f"folder is {str(folder)!r}, expected readable tokenizer files "
            f"({one_line(error)})"
        ) from error
    return encoder
