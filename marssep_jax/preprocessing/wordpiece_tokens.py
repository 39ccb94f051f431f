"""Captions to WordPiece ids, as BERT's descendants read them.

The vocabulary belongs to a checkpoint and is read from its folder.
"""

import functools
import os
from pathlib import Path
from typing import Any

from marssep_jax.preprocessing.tokenizer_files import (
    Tokenise,
    Vocabulary,
    make_tokeniser,
)

UNKNOWN = "[UNK]"


@functools.lru_cache(maxsize=4)
def make_wordpiece_tokenizer(
    folder: str | os.PathLike[str], length: int, max_words: int | None = None
) -> Tokenise:
    """Build ``tokenise(captions) -> int32 ids [m, length]`` of a checkpoint.

    A row is start, at most ``length - 2`` pieces, end, padding. Without a
    tokenizer.json, captions are lower-cased and lose their accents, as those of
    uncased models do.

    Args:
      folder: holds tokenizer.json, or vocab.txt.
      length: ids in a row, at least 3.
      max_words: rows of the model's table; None does not ask.

    Raises:
      FileNotFoundError: no such folder, or none of these files in it.
      ValueError: damaged files, a vocabulary without BERT's special tokens or with
        more words than the table, or a length under 3; and by ``tokenise``, a
        caption without words.
      ModuleNotFoundError: tokenizers is missing.
    """
    return make_tokeniser(WORDPIECE, Path(folder), length, max_words)


def _build(tokenizers: Any, vocab: Path) -> Any:
    model = tokenizers.models.WordPiece.from_file(str(vocab), unk_token=UNKNOWN)
    encoder = tokenizers.Tokenizer(model)
    encoder.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return encoder


WORDPIECE = Vocabulary(
    purpose="reading captions for MiniLM",
    parts=("vocab.txt",),
    build=_build,
    special=("[CLS]", "[SEP]", "[PAD]"),
)
