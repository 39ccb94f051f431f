"""Embeddings beside a data set: made once, read after that, refused when stale."""

import dataclasses
import errno
import shutil
import subprocess

import numpy as np
import pytest

from data_pipelines.catalogue import load_catalogue, save_catalogue
from experiments import datasets, row_cache
from experiments.bank_cache import (
    SAMPLED_ROWS,
    bank_cache,
    data_fingerprint,
    encoder_fingerprint,
)
from experiments.embeddings import CatalogueEmbedder
from marssep_jax.config import EncoderConfig, FrontendConfig
from marssep_jax.encoders.inputs import make_inputs

PARAMS = {"scale": np.float32(0.37)}
CONFIG = EncoderConfig(embed_dim=4, text_length=24, image_size=8)
FRONTEND = FrontendConfig(sample_rate_hz=11_025, num_samples=1_024)


def same(a, b):
    np.testing.assert_array_equal(a.text, b.text)
    np.testing.assert_array_equal(a.image, b.image)
    assert list(a.audio) == list(b.audio)
    for split in a.audio:
        np.testing.assert_array_equal(a.audio[split], b.audio[split])


@pytest.fixture(scope="module")
def embed(encoder):
    return CatalogueEmbedder(encoder, make_inputs(CONFIG))


@pytest.fixture
def prepared(catalogue, tmp_path):
    save_catalogue(catalogue, tmp_path)
    return datasets.OpenedData(load_catalogue(tmp_path), tmp_path)


def open_bank(data, embed, params=PARAMS):
    return datasets.open_bank(data, embed, params, CONFIG, FRONTEND)


def folder_of(data):
    (folder,) = data.directory.glob("embeddings_*")
    return folder


def test_embeddings_are_read_the_second_time(prepared, embed):
    first = open_bank(prepared, embed)
    same(first, embed(PARAMS, prepared.catalogue))
    name = encoder_fingerprint(CONFIG, FRONTEND, PARAMS)
    assert folder_of(prepared).name == f"embeddings_{name}"
    same(open_bank(prepared, None), first)


def test_a_truncated_cache_is_completed(prepared, embed):
    open_bank(prepared, embed)
    first = embed(PARAMS, prepared.catalogue)  # a bank is mapped from its files
    path = next(folder_of(prepared).glob("audio_seen_*"))
    whole = path.read_bytes()
    path.unlink()  # what is mapped stays as it was
    path.write_bytes(whole[:-1])
    same(open_bank(prepared, embed), first)
    same(open_bank(prepared, None), first)


def test_other_parameters_have_a_cache_of_their_own(prepared, embed):
    first = open_bank(prepared, embed)
    other = open_bank(prepared, embed, {"scale": np.float32(0.5)})
    assert not np.array_equal(first.text, other.text)
    assert len(list(prepared.directory.glob("embeddings_*"))) == 2


def test_embeddings_of_another_encoder_are_refused(prepared, embed):
    open_bank(prepared, embed)
    mine, other = folder_of(prepared), {"scale": np.float32(0.5)}
    name = encoder_fingerprint(CONFIG, FRONTEND, other)
    mine.rename(mine.with_name(f"embeddings_{name}"))
    message = f"embeddings are .*, expected those of encoder {name}, not of .*stale: d"
    with pytest.raises(ValueError, match=message):
        open_bank(prepared, embed, other)


def test_embeddings_of_other_clips_are_refused(prepared, embed):
    """The data set was prepared again: the same names, another sound."""
    first = open_bank(prepared, embed)
    clips = {k: np.array(v) for k, v in prepared.catalogue.clips.items()}
    clips["seen"][3, 5] ^= 1
    save_catalogue(prepared.catalogue._replace(clips=clips), prepared.directory)
    again = prepared._replace(catalogue=load_catalogue(prepared.directory))
    with pytest.raises(ValueError, match=r"expected those of data .* \(stale: delete"):
        open_bank(again, embed)
    shutil.rmtree(folder_of(prepared))
    second = open_bank(again, embed)
    np.testing.assert_array_equal(second.text, first.text)
    assert not np.array_equal(second.audio["seen"], first.audio["seen"])


def test_a_data_set_that_cannot_be_written(prepared, embed, monkeypatch):
    def fail(path, raw):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(row_cache, "replace_file", fail)
    same(open_bank(prepared, embed), embed(PARAMS, prepared.catalogue))
    assert not list(folder_of(prepared).iterdir())


def test_a_read_only_disk(catalogue, small_disk, embed):
    save_catalogue(catalogue, small_disk)
    command = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(command, check=True, capture_output=True)
    data = datasets.OpenedData(load_catalogue(small_disk), small_disk)
    same(open_bank(data, embed), embed(PARAMS, catalogue))
    assert not list(small_disk.glob("embeddings_*"))
    del data  # its clips are mapped from the disk


def test_a_data_set_in_memory_has_no_cache(catalogue, embed):
    found = open_bank(datasets.OpenedData(catalogue, None), embed)
    assert list(found.audio) == list(catalogue.clips)


def test_encoders_are_told_apart():
    other = dataclasses.replace
    names = [
        encoder_fingerprint(config, frontend, params)
        for config, frontend, params in (
            (CONFIG, FRONTEND, PARAMS),
            (other(CONFIG, text_length=25), FRONTEND, PARAMS),
            (CONFIG, other(FRONTEND, num_rows=64), PARAMS),
            (CONFIG, other(FRONTEND, sample_rate_hz=16_000), PARAMS),
            (CONFIG, FRONTEND, {"scale": np.float32(0.38)}),
            (CONFIG, FRONTEND, {"scale": np.float16(0.37)}),
            (CONFIG, FRONTEND, {"other": np.float32(0.37)}),
        )
    ]
    assert len(set(names)) == 7
    # Neither the pooling nor the length of crops changes an embedding.
    pooled = other(CONFIG, pooling="mean")
    longer = other(FRONTEND, num_samples=2_048)
    assert encoder_fingerprint(pooled, longer, dict(PARAMS)) == names[0]


def test_data_sets_are_told_apart(catalogue):
    seen, first = catalogue.clip_id["seen"], data_fingerprint(catalogue)
    clips, images = np.array(catalogue.clips["train"]), np.array(catalogue.images)
    clips[7] = 0
    images[2, 0, 0, 0] ^= 1
    changes = (
        {"texts": ("a",)},
        {"clip_id": catalogue.clip_id | {"seen": seen[::-1]}},
        {"clips": catalogue.clips | {"train": clips}},
        {"images": images},
        {"sample_rate_hz": 16_000},
        {"description": {"version": "2"}},
        {"dataset": "other"},
    )
    names = {data_fingerprint(catalogue._replace(**change)) for change in changes}
    assert len(names | {first}) == 8
    assert data_fingerprint(catalogue._replace(class_names=())) == first


class Large:
    """Clips as many as in a large data set; they are made where they are looked at."""

    shape, dtype = (200_000, 32), np.dtype(np.int16)
    asked = 0

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        self.asked += len(rows)
        return np.repeat(rows[:, None], 32, axis=1).astype(np.int16)


def test_few_clips_of_a_large_data_set_are_read(catalogue):
    large = Large()
    data_fingerprint(catalogue._replace(clips={"train": large}))
    assert large.asked == SAMPLED_ROWS


def test_the_tables_of_a_cache(prepared):
    cache = bank_cache(prepared.directory, prepared.catalogue, CONFIG, FRONTEND, PARAMS)
    assert cache.header.tables["text"] == (24, 4)
    assert cache.header.tables["audio_seen"] == (12, 4)
    assert cache.count_missing() == sum(n for n, _ in cache.header.tables.values())
