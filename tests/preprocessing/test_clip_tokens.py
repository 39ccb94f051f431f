"""CLIP's ids: golden rows, transformers' tokenizer, what users may type."""

import sys
import time

import numpy as np
import pytest

from marssep_jax.preprocessing import clip_tokens
from marssep_jax.preprocessing.clip_tokens import (
    byte_letters,
    clean_caption,
    find_vocabulary,
    make_clip_tokenizer,
    read_vocabulary,
)


@pytest.fixture(scope="module")
def vocabulary():
    """Return the real file; `make test` installs the package that carries it."""
    return find_vocabulary()


@pytest.fixture(scope="module")
def tokenise(vocabulary):
    return make_clip_tokenizer(vocabulary)


PUBLISHED = {
    "people clapping": "1047 940 1682",
    "a photo of playing violin, fiddle.": "320 1125 539 1629 17058 267 35968 269",
    "It's 12:30 o'clock — café naïve": (
        "585 568 272 273 281 274 271 334 262 6716 2005 15304 1097 35689 563"
    ),
    "violin & fiddle &amp; cello": "17058 261 35968 261 23013",
    "ＦＵＬＬwidth ﬁ": "9407 23571 3589",
    "x " * 100: "343 " * 75,
}


@pytest.mark.parametrize("caption", PUBLISHED)
def test_published_ids(tokenise, caption):
    rows = tokenise([caption])
    assert rows.shape == (1, 77)
    assert rows.dtype == np.int32
    expected = [49_406, *map(int, PUBLISHED[caption].split()), 49_407]
    assert rows[0, : len(expected)].tolist() == expected
    assert (rows[0, len(expected) :] == 0).all()


def test_ids_equal_transformers(vocabulary, tokenise):
    from transformers import CLIPTokenizer

    vocab, merges = read_vocabulary(vocabulary)
    special = {"<|startoftext|>": 49_406, "<|endoftext|>": 49_407}
    theirs = CLIPTokenizer(vocab=vocab | special, merges=merges)
    captions = [
        "the sound of a Hammond-Organ, 2 octaves lower",
        "we'LL they're don't 'tis I'd",
        "C# minor / 4/4 @ 120bpm!!! (live)",
        "日本語 🎻🎻 Ünïcödé ½ ٣ Ⅷ",
        "a_b__c  tabs\tand\nlines",
    ]
    for caption, row in zip(captions, tokenise(captions), strict=True):
        expected = theirs(clean_caption(caption))["input_ids"]
        assert row[: len(expected)].tolist() == expected
        assert (row[len(expected) :] == 0).all()


def test_special_tokens_are_only_ours(tokenise):
    (row,) = tokenise(["<|endoftext|> violin <|startoftext|>"])
    assert (row == 49_407).sum() == (row == 49_406).sum() == 1
    # The text tower reads its vector at the largest id: that must be the end.
    assert row.argmax() == np.count_nonzero(row) - 1


def test_rows_do_not_depend_on_each_other(tokenise):
    captions = ["a violin", "x " * 100, "a flute in the rain"]
    rows = tokenise(captions)
    assert rows.shape == (3, 77)
    for caption, row in zip(captions, rows, strict=True):
        np.testing.assert_array_equal(tokenise([caption])[0], row)
    assert tokenise([]).shape == (0, 77)


def test_other_lengths_keep_the_end(vocabulary):
    (row,) = make_clip_tokenizer(vocabulary, 4)(["people clapping together"])
    assert row.tolist() == [49406, 1047, 940, 49407]
    with pytest.raises(ValueError, match="length is 2, expected at least 3"):
        make_clip_tokenizer(vocabulary, 2)


def test_long_captions_are_quick(tokenise):
    words = np.random.default_rng(0).integers(97, 123, (10_000, 7), np.uint8)
    caption = " ".join(word.tobytes().decode() for word in words)
    start = time.perf_counter()
    (row,) = tokenise([caption])
    assert time.perf_counter() - start < 5.0  # 0.15 s here
    assert row[0] == 49_406
    assert row[-1] == 49_407


def test_cleaning_by_hand():
    assert clean_caption("  A\u00a0 Violin\n&amp;lt;3 ") == "a violin <3"
    assert clean_caption("cafÃ© ＦＬＵＴＥ ﬁ") == "café flute fi"


@pytest.mark.parametrize("caption", ["", " \n\t", "&nbsp;"])
def test_captions_without_words_are_named(tokenise, caption):
    with pytest.raises(ValueError, match="expected at least one letter") as error:
        tokenise(["a violin", caption])
    assert str(error.value).startswith(f"text is {caption!r}")


def test_damaged_text_is_named(tokenise):
    with pytest.raises(ValueError, match=r"text is 'a\\udcff', expected valid Unicode"):
        tokenise(["a\udcff"])


def test_vocabulary_is_numbered_as_published(vocabulary):
    vocab, merges = read_vocabulary(vocabulary)
    assert len(merges) == 48_894
    assert len(vocab) == 49_406
    assert vocab["!"] == 0
    assert vocab["!</w>"] == 256
    assert vocab["in"] == 512  # the first merge
    letters = byte_letters()
    assert len(set(letters)) == 256
    assert letters[188] == "\u0100"


def test_another_vocabulary_is_refused(tmp_path):
    path = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    with pytest.raises(FileNotFoundError, match=r"gz', expected an existing file"):
        make_clip_tokenizer(path)
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"vocabulary is '.*gz', expected .* SHA-256"):
        make_clip_tokenizer(path)
    with pytest.raises(IsADirectoryError, match="expected a file, not a folder"):
        make_clip_tokenizer(tmp_path)


@pytest.mark.parametrize("installed", [False, True])
def test_a_vocabulary_that_is_nowhere(monkeypatch, tmp_path, installed):
    spec = None
    if installed:  # a package without the file
        spec = clip_tokens.importlib.util.spec_from_file_location(
            "open_clip",
            tmp_path / "__init__.py",
            submodule_search_locations=[str(tmp_path)],
        )
    monkeypatch.setattr(clip_tokens.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps open_clip_t"):
        make_clip_tokenizer()


def test_a_missing_package_is_named_before_the_first_caption(monkeypatch, vocabulary):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ModuleNotFoundError, match="for ImageBind needs the package 'f"):
        make_clip_tokenizer(vocabulary, 9)
