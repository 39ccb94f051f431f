"""RoBERTa's ids from a checkpoint's folder, against transformers' tokenizer."""

import json

import numpy as np
import pytest

from marssep_jax.preprocessing.clip_tokens import byte_letters
from marssep_jax.preprocessing.roberta_tokens import make_roberta_tokenizer

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
MERGES = [
    ("s", "o"),
    ("so", "u"),
    ("n", "d"),
    ("sou", "nd"),
    ("Ġ", "sound"),
    ("Ġ", "a"),
]
CAPTIONS = ["sound", "a sound", "the sound of a café, 3 times", "  two  spaces 🎻"]


@pytest.fixture(scope="module")
def tables():
    pieces = [*SPECIAL, *byte_letters(), *(left + right for left, right in MERGES)]
    vocab = {piece: number for number, piece in enumerate([*pieces, "<mask>"])}
    return vocab, MERGES


@pytest.fixture(scope="module")
def published(tables):
    from transformers import RobertaTokenizer

    vocab, merges = tables
    return RobertaTokenizer(vocab=vocab, merges=merges)


@pytest.fixture(params=["tokenizer.json", "vocab.json"])
def folder(request, tmp_path, tables, published):
    """Return a checkpoint's folder in either of its two forms."""
    if request.param == "tokenizer.json":
        published.save_pretrained(tmp_path)
        return tmp_path
    vocab, merges = tables
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_ids_equal_transformers(folder, published):
    rows = make_roberta_tokenizer(folder)(CAPTIONS)
    theirs = published(CAPTIONS, padding="max_length", max_length=77)["input_ids"]
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(rows, theirs)
    sound = published.convert_tokens_to_ids("sound")
    assert rows[0, :5].tolist() == [0, sound, 2, 1, 1]


def test_long_captions_keep_their_end(folder, published):
    tokenise = make_roberta_tokenizer(folder, 6)
    (row,) = tokenise(["sound" * 10_000])
    sound = published.convert_tokens_to_ids("sound")
    assert row.tolist() == [0, sound, sound, sound, sound, 2]


def test_special_tokens_are_only_ours(folder):
    (row,) = make_roberta_tokenizer(folder)(["</s> <pad><mask>sound<s>"])
    held = row[row != 1]
    assert (held == 2).sum() == (held == 0).sum() == 1
    assert held[-1] == 2
    assert len(held) > 20  # spelt out letter by letter


def test_captions_without_words_are_named(folder):
    tokenise = make_roberta_tokenizer(folder)
    with pytest.raises(ValueError, match="text is ' ', expected at least one letter"):
        tokenise(["sound", " "])
    with pytest.raises(ValueError, match="expected valid Unicode"):
        tokenise(["\ud800"])


def test_folders_without_a_tokenizer_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a checkpoint's folder with"):
        make_roberta_tokenizer(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"folder is '.*nowhere', expected a"):
        make_roberta_tokenizer(tmp_path / "nowhere")
    (tmp_path / "vocab.json").write_text("{}")  # its merges are missing
    with pytest.raises(FileNotFoundError, match=r"vocab\.json and merges\.txt"):
        make_roberta_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match="expected a vocabulary with <s>"):
        make_roberta_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(ValueError, match="expected readable tokenizer files"):
        make_roberta_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(ValueError, match="expected readable tokenizer files") as error:
        make_roberta_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_lengths_are_checked(tmp_path):
    with pytest.raises(ValueError, match="length is 2, expected at least 3"):
        make_roberta_tokenizer(tmp_path, 2)
