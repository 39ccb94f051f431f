"""Captions to RoBERTa's byte-pair ids, as CLAP's text tower reads them.

The vocabulary belongs to a checkpoint and is read from its folder.
"""

import functools
import json
import os
from pathlib import Path
from typing import Any

from marssep_jax.preprocessing.tokenizer_files import (
    Tokenise,
    Vocabulary,
    make_tokeniser,
)

TEXT_LENGTH = 77
"""LAION's; RoBERTa has positions for 512, and padding does not change the vector."""


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
    return make_tokeniser(ROBERTA, Path(folder), length)


def _build(tokenizers: Any, vocab: Path, merges: Path) -> Any:
    json.loads(vocab.read_bytes())  # says what is wrong better than the next
    encoder = tokenizers.Tokenizer(
        tokenizers.models.BPE.from_file(str(vocab), str(merges))
    )
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return encoder


ROBERTA = Vocabulary(
    purpose="reading captions for CLAP",
    parts=("vocab.json", "merges.txt"),
    build=_build,
    special=("<s>", "</s>", "<pad>"),
)
