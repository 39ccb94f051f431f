"""Captions to CLIP's byte-pair ids, as ImageBind's text tower reads them.

The vocabulary is a file of 1.4 MB that OpenAI published under MIT; it is found or
given by path, never downloaded. Cleaning, splitting and padding are ImageBind's.
"""

import functools
import gzip
import hashlib
import html
import importlib.util
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from marssep_jax.optional import import_package
from marssep_jax.preprocessing.captions import pack_rows, require_words

TEXT_LENGTH = 77
PAD_ID = 0
START_ID, END_ID = 49_406, 49_407
VOCABULARY_NAME = "bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
VOCABULARY_SOURCE = "pip install --no-deps open_clip_torch==3.3.0"
NUM_MERGES = 48_894
"""Lines of the file that CLIP uses, after a line of version."""
WORD_END = "</w>"
PURPOSE = "reading captions for ImageBind"
# An apostrophe's ending, letters, one digit, or anything else but white space.
_SPLIT = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"

Tokenise = Callable[[Sequence[str]], Int[np.ndarray, "m 77"]]


def find_vocabulary() -> Path:
    """Return the vocabulary of an installed open_clip_torch, without importing it.

    Raises:
      FileNotFoundError: it is not installed, or lacks the file.
    """
    # Of a top-level name this only looks where the package is; it wants PyTorch.
    spec = importlib.util.find_spec("open_clip")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / VOCABULARY_NAME
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{VOCABULARY_NAME} was not found, expected its path or the package that has "
        f"it ({VOCABULARY_SOURCE})"
    )


def read_vocabulary(
    path: str | os.PathLike[str], name: str = "vocabulary"
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Read CLIP's pieces, numbered, and their merges in order of rank.

    Raises:
      FileNotFoundError, IsADirectoryError: nothing there, or a folder.
      ValueError: another file than the published one.
    """
    label = f"{name} is {os.fspath(path)!r}"
    if os.path.isdir(path):
        raise IsADirectoryError(f"{label}, expected a file, not a folder")
    if not os.path.exists(path):
        raise FileNotFoundError(f"{label}, expected an existing file")
    content = Path(path).read_bytes()
    # Another vocabulary would number the words differently, and nothing would show.
    if hashlib.sha256(content).hexdigest() != VOCABULARY_SHA256:
        raise ValueError(
            f"{label}, expected {VOCABULARY_NAME} with SHA-256 {VOCABULARY_SHA256}"
        )
    lines = gzip.decompress(content).decode().split("\n")[1 : NUM_MERGES + 1]
    merges = [(left, right) for left, right in map(str.split, lines)]
    letters = byte_letters()
    pieces = [*letters, *(letter + WORD_END for letter in letters)]
    pieces += [left + right for left, right in merges]
    return {piece: number for number, piece in enumerate(pieces)}, merges


def byte_letters() -> list[str]:
    """Return the letter that stands for each byte, in the vocabulary's order.

    Printable bytes stand for themselves and come first; the others are moved up
    to U+0100 and on.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = range(256, 256 + 256 - len(printable))
    return [chr(code) for code in [*printable, *moved]]


def clean_caption(caption: str) -> str:
    """Repair encoding errors and entities, join white space, lower the case."""
    ftfy = import_package("ftfy", PURPOSE)
    text = html.unescape(html.unescape(ftfy.fix_text(caption)))
    return re.sub(r"\s+", " ", text.strip()).strip().lower()


@functools.lru_cache(maxsize=4)
def make_clip_tokenizer(
    vocabulary: str | os.PathLike[str] | None = None, length: int = TEXT_LENGTH
) -> Tokenise:
    """Build ``tokenise(captions) -> int32 ids [m, length]``.

    A row is start, at most ``length - 2`` pieces, end, zeros. A special token
    spelt out in a caption is read as the letters it is made of: its id would move
    the place where the text tower looks for the end.

    Args:
      vocabulary: path of ``bpe_simple_vocab_16e6.txt.gz``; None looks for it.
      length: ids in a row, at least 3.

    Raises:
      FileNotFoundError, IsADirectoryError, ValueError: as `find_vocabulary` and
        `read_vocabulary`, or a length under 3; and by ``tokenise``, ValueError for
        a caption without words.
      ModuleNotFoundError: ftfy or tokenizers is missing.
    """
    if length < 3:
        raise ValueError(f"length is {length}, expected at least 3")
    import_package("ftfy", PURPOSE)  # missing: say so now, not at the first caption
    vocabulary = find_vocabulary() if vocabulary is None else vocabulary
    tokenizer = _byte_pair_encoder(*read_vocabulary(vocabulary))

    def tokenise(captions: Sequence[str]) -> np.ndarray:
        clean = []
        for caption in captions:
            require_words(caption)
            clean.append(clean_caption(caption))
            require_words(caption, clean[-1])
        rows = (row.ids for row in tokenizer.encode_batch(clean))
        return pack_rows(rows, length, START_ID, END_ID, PAD_ID)

    return tokenise


def _byte_pair_encoder(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    tokenizers = import_package("tokenizers", PURPOSE)
    model = tokenizers.models.BPE(vocab, merges, end_of_word_suffix=WORD_END)
    encoder = tokenizers.Tokenizer(model)
    split = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(_SPLIT), behavior="removed", invert=True
    )
    # The pieces are final: this one only spells them in byte letters.
    spell = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, spell])
    return encoder
