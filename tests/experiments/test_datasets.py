"""Where data sets are found, and whether they fit."""

import os

import numpy as np
import pytest

from data_pipelines.catalogue import save_catalogue
from data_pipelines.manifest import verify
from experiments import datasets
from experiments.datasets import (
    OpenedData,
    find_directory,
    open_data,
    require_fit,
    training_batches,
    validation_manifest,
)
from experiments.embeddings import Banks
from experiments.settings import DataConfig, resolve
from marssep_jax.config import FrontendConfig

FRONTEND = FrontendConfig(sample_rate_hz=11_025, num_samples=1_024)


@pytest.fixture
def prepare(tmp_path):
    """Return a function that makes a folder look like a prepared data set."""

    def make(name):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "catalogue.json").write_text("{}")
        return folder

    return make


def test_the_full_data_set_comes_before_the_reduced_one(prepare, tmp_path):
    prepare("instruments/reduced/9.0.0")
    full = prepare("instruments/full/1.0.0")
    assert find_directory("instruments", str(tmp_path)) == full


@pytest.mark.parametrize(("old", "new"), [("1.9.9", "2.0.0"), ("1.9.0", "1.10.0")])
def test_the_newest_version(prepare, tmp_path, old, new):
    prepare(f"instruments/full/{old}")
    new = prepare(f"instruments/full/{new}")
    assert find_directory("instruments", str(tmp_path)) == new


def test_a_folder_names_itself(prepare, tmp_path):
    folder = prepare("mine")
    assert find_directory(str(folder), "elsewhere") == folder


@pytest.mark.parametrize("made", [(), ("instruments/full",)])
def test_nothing_prepared(tmp_path, made):
    for name in made:  # interrupted before its catalogue was written
        os.makedirs(tmp_path / name / "1.0.0")
    with pytest.raises(ValueError, match="dataset is 'instruments'") as caught:
        find_directory("instruments", str(tmp_path))
    assert f"a name under {str(tmp_path)!r}" in str(caught.value)
    assert "python -m experiments.prepare makes one" in str(caught.value)


def test_clips_and_front_end_fit(catalogue):
    require_fit(catalogue, FRONTEND)
    longest = FrontendConfig(sample_rate_hz=11_025, num_samples=2_048)
    require_fit(catalogue, longest)


def test_another_rate(catalogue):
    message = "config.frontend.sample_rate_hz is 16000, expected 11025 as the data set"
    with pytest.raises(ValueError, match=message):
        require_fit(catalogue, FrontendConfig(num_samples=1_024))


def test_clips_that_are_too_short(catalogue):
    frontend = FrontendConfig(sample_rate_hz=11_025, num_samples=2_049)
    message = "config.frontend.num_samples is 2049, expected at most 2048 as the clips"
    with pytest.raises(ValueError, match=message) as caught:
        require_fit(catalogue, frontend)
    assert "crops of 1024 are usual" in str(caught.value)


def test_open_prepared_data(catalogue, tmp_path):
    folder = tmp_path / "sounds" / "full" / "1.0.0"
    save_catalogue(catalogue, folder)
    config = DataConfig(dataset="sounds", data_dir=str(tmp_path))
    opened = open_data(config, FRONTEND, 8)
    assert opened.directory == folder
    np.testing.assert_array_equal(
        opened.catalogue.clips["seen"], catalogue.clips["seen"]
    )
    with pytest.raises(ValueError, match="sample_rate_hz is 16000, expected 11025"):
        open_data(config, FrontendConfig(num_samples=1_024), 8)


@pytest.mark.parametrize("name", ["split", "validation_split"])
def test_a_split_that_is_not_there(catalogue, tmp_path, name):
    known = ", ".join(sorted(catalogue.clips))
    save_catalogue(catalogue, tmp_path / "sounds" / "full" / "1.0.0")
    config = DataConfig(dataset="sounds", data_dir=str(tmp_path), **{name: "dev"})
    with pytest.raises(ValueError, match="expected one of") as caught:
        open_data(config, FRONTEND, 8)
    expected = f"config.data.{name} is 'dev', expected one of {known} as the data set"
    assert str(caught.value).startswith(expected)


def test_open_synthetic_data():
    opened = open_data(DataConfig(dataset="synthetic"), FRONTEND, 8)
    assert opened.directory is None
    require_fit(opened.catalogue, FRONTEND)
    assert opened.catalogue.images.shape[1:] == (8, 8, 3)


def settings(**data):
    frontend = {"sample_rate_hz": 11_025, "num_samples": 1_024}
    training = {"batch_size": 3}
    data = {"num_validation": 4, "num_absent": 1} | data
    return resolve({"frontend": frontend, "training": training, "data": data})


def test_validation_mixtures_are_the_same_each_time(catalogue):
    first = validation_manifest(settings(), catalogue)
    assert validation_manifest(settings(), catalogue) == first
    verify(first, catalogue)
    assert first["split"] == "validation"
    assert [entry["id"] for entry in first["mixtures"]] == [
        f"validation-{number:04d}" for number in range(4)
    ]
    assert {entry["num_samples"] for entry in first["mixtures"]} == {1_024}
    # More mixtures go on where fewer ended.
    more = validation_manifest(settings(num_validation=6), catalogue)
    assert more["mixtures"][:4] == first["mixtures"]


def test_batches_go_on_at_any_step(catalogue, bank):
    def draw(start, count):
        stream = training_batches(settings(), catalogue, Banks(bank, bank), start)
        found = [next(stream) for _ in range(count)]
        stream.close()
        return found

    whole, later = draw(0, 3), draw(2, 1)
    for here, there in zip(whole[2], later[0], strict=True):
        np.testing.assert_array_equal(here, there)
    assert not np.array_equal(whole[0].target, whole[1].target)


def test_batches_have_absent_targets_and_their_embeddings(catalogue, bank):
    stream = training_batches(settings(), catalogue, Banks(bank, bank), 0)
    batch = next(stream)
    stream.close()
    assert batch.target.shape == (3, 3, 1_024)
    assert (np.abs(batch.target).max(axis=-1) > 0).tolist() == 3 * [[True, True, False]]
    assert batch.query.shape == batch.text.shape == batch.image.shape == (3, 3, 4)
    np.testing.assert_allclose(np.linalg.norm(batch.query, axis=-1), 1.0, rtol=1e-5)
    for text, label in zip(batch.text[0], batch.label[0], strict=True):
        captions = bank.text[catalogue.text_label == label]
        assert any(np.array_equal(text, caption) for caption in captions)


def test_other_seeds_draw_other_mixtures(catalogue, bank):
    found = []
    for seed in (0, 1):
        plan = resolve(
            {
                "seed": seed,
                "frontend": {"sample_rate_hz": 11_025, "num_samples": 1_024},
                "training": {"batch_size": 3},
            }
        )
        stream = training_batches(plan, catalogue, Banks(bank, bank), 0)
        found.append(next(stream).target)
        stream.close()
    assert not np.array_equal(*found)


def test_opened_data_names_its_parts(catalogue):
    assert OpenedData(catalogue, None).catalogue is catalogue
    assert datasets.SYNTHETIC == "synthetic"
