"""WordPiece ids from a checkpoint's folder, against transformers' tokenizer."""

import numpy as np
import pytest

from marssep_jax.preprocessing.wordpiece_tokens import make_wordpiece_tokenizer
from tests.support.tiny_minilm import VOCABULARY, write_tokenizer

CAPTIONS = ["The sound of a fiddle!", "violins", "CAFÉ", "  a   theremin 🎻"]


@pytest.fixture(params=["tokenizer.json", "vocab.txt"])
def folder(request, tmp_path):
    write_tokenizer(tmp_path, request.param)
    return tmp_path


def test_ids_equal_transformers(folder):
    from transformers import BertTokenizer

    published = BertTokenizer(vocab={word: n for n, word in enumerate(VOCABULARY)})
    rows = make_wordpiece_tokenizer(folder, 12)(CAPTIONS)
    theirs = published(CAPTIONS, padding="max_length", max_length=12)["input_ids"]
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rows, theirs)
    assert [VOCABULARY[number] for number in rows[1, :5]] == [
        *("[CLS]", "violin", "##s", "[SEP]", "[PAD]")
    ]


def test_special_tokens_are_only_ours(folder):
    (row,) = make_wordpiece_tokenizer(folder, 12)(["[SEP] violin [PAD] [CLS]"])
    held = row[row != 0]
    assert held[0] == 2
    assert held[-1] == 3
    assert (held == 2).sum() == (held == 3).sum() == 1
    assert VOCABULARY.index("violin") in held


def test_long_captions_keep_their_end(folder):
    (row,) = make_wordpiece_tokenizer(folder, 5)(["violin " * 10_000])
    assert row.tolist() == [2, *[VOCABULARY.index("violin")] * 3, 3]


def test_folders_without_a_tokenizer_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json, or with vocab\.txt"):
        make_wordpiece_tokenizer(tmp_path, 9)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match=r"expected a vocabulary with \[CLS\]"):
        make_wordpiece_tokenizer(tmp_path, 9)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="expected readable tokenizer files") as error:
        make_wordpiece_tokenizer(tmp_path, 9)
    assert "\n" not in str(error.value)
