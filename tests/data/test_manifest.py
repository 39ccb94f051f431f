import copy

import numpy as np
import pytest

from data_pipelines.manifest import (
    build_manifest,
    fingerprint,
    read_manifest,
    render,
    verify,
    write_manifest,
)
from data_pipelines.synthetic import synthetic_catalogue


@pytest.fixture(scope="module")
def catalogue():
    return synthetic_catalogue(3_000, crop_samples=2_048)


@pytest.fixture(scope="module")
def manifest(catalogue):
    return build_manifest(catalogue, "unseen", 200, 7)


def test_mixtures_do_not_depend_on_how_many_there_are(catalogue, manifest):
    few = build_manifest(catalogue, "unseen", 3, 7)
    assert few["mixtures"] == manifest["mixtures"][:3]
    other = build_manifest(catalogue, "unseen", 3, 8)
    assert other["mixtures"][0] != few["mixtures"][0]


def test_hash_is_the_same_on_every_machine(catalogue):
    # Integers in, integer arithmetic, one rounding: no freedom is left. The hash was
    # computed apart from `render`, with Python integers and fractions.
    ramp = (np.arange(3_000) * 7_919 % 20_011 - 10_000).astype(np.int16)
    clips = {"seen": np.stack([ramp, ramp[::-1]])}
    small = catalogue._replace(clips=clips, clip_id={"seen": ("a", "b")})
    entry = {
        "id": "x",
        "split": "seen",
        "num_samples": 2_048,
        "sources": [
            {"clip_id": "a", "row": 0, "offset": 10, "gain_db": 2.41},
            {"clip_id": "b", "row": 1, "offset": 900, "gain_db": -2.41},
        ],
    }
    assert fingerprint(render(entry, small)) == GOLDEN


def test_contents_follow_the_rules(catalogue, manifest):
    assert manifest["num_samples"] == 2_048
    label = catalogue.clip_label["unseen"]
    differences = []
    for entry in manifest["mixtures"]:
        one, two = entry["sources"]
        labels = [one["label"], two["label"]]
        assert len({*labels, entry["absent"]["label"]}) == 3
        differences.append(one["gain_db"] - two["gain_db"])
        assert (
            catalogue.text_label[entry["absent"]["text_id"]] == entry["absent"]["label"]
        )
        for source, query in zip(entry["sources"], entry["queries"], strict=True):
            assert label[source["row"]] == source["label"]
            assert source["offset"] + 2_048 <= 3_000
            assert catalogue.text_label[query["text_id"]] == source["label"]
            assert source["row"] not in query["audio_rows"]
            assert (label[query["audio_rows"]] == source["label"]).all()
            images = query["image_ids"]
            assert (catalogue.image_label[images] == source["label"]).all()
            assert (catalogue.image_split[images] == 1).all()
            assert bool(images) == (source["label"] != 5)
    assert np.abs(differences).max() <= 5.0
    # Uniform on +-5 has standard deviation 2.89; 200 draws give it to 5 %.
    assert np.std(differences) == pytest.approx(2.89, rel=0.15)


def test_mixtures_of_one_family(catalogue):
    alike = build_manifest(catalogue, "unseen", 60, 7, same_family=True)
    families = set()
    for entry in alike["mixtures"]:
        one, two = (catalogue.families[s["label"]] for s in entry["sources"])
        assert one == two
        labels = {s["label"] for s in entry["sources"]}
        assert len(labels | {entry["absent"]["label"]}) == 3
        families.add(one)
    assert families == {0, 1, 2}
    with pytest.raises(ValueError, match="at least 3 classes of one family"):
        build_manifest(catalogue, "unseen", 1, 7, num_sources=3, same_family=True)


def test_audio_has_the_stated_levels(catalogue, manifest):
    for entry in manifest["mixtures"][:20]:
        sources = render(entry, catalogue)
        assert sources.dtype == np.float32
        level = 20 * np.log10(np.sqrt(np.mean(sources.astype(np.float64) ** 2, -1)))
        gains = [source["gain_db"] for source in entry["sources"]]
        # The factor is a multiple of 2^-12: 0.002 dB at the factor 0.5.
        np.testing.assert_allclose(level, np.add(gains, -20.0), atol=3e-3)


def test_round_trip_and_verification(tmp_path, catalogue, manifest):
    path = tmp_path / "manifest.json"
    write_manifest(manifest, path)
    assert read_manifest(path) == manifest
    verify(manifest, catalogue)


def test_verification_notices_changed_audio(catalogue, manifest):
    changed = copy.deepcopy(manifest)
    row = changed["mixtures"][5]["sources"][0]["row"]
    clips = {**catalogue.clips, "unseen": catalogue.clips["unseen"].copy()}
    clips["unseen"][row, 1_024] += 1  # inside every crop of 2048 of 3000
    with pytest.raises(ValueError, match="SHA-256"):
        verify(changed, catalogue._replace(clips=clips))


def test_verification_notices_another_clip(catalogue, manifest):
    changed = copy.deepcopy(manifest)
    changed["mixtures"][0]["sources"][0]["clip_id"] = "unseen/other"
    with pytest.raises(ValueError, match="unseen-0000 wants clip 'unseen/other'"):
        verify(changed, catalogue)


def test_two_classes_leave_no_absent_one(catalogue):
    keep = catalogue.clip_label["seen"] < 2
    small = catalogue._replace(
        clips={"seen": catalogue.clips["seen"][keep]},
        clip_label={"seen": catalogue.clip_label["seen"][keep]},
        clip_id={"seen": catalogue.clip_id["seen"][: keep.sum()]},
    )
    entry = build_manifest(small, "seen", 1, 0)["mixtures"][0]
    assert entry["absent"] is None


def test_more_sources(catalogue):
    manifest = build_manifest(catalogue, "seen", 20, 3, num_sources=4)
    verify(manifest, catalogue)
    for entry in manifest["mixtures"]:
        assert len({s["label"] for s in entry["sources"]}) == 4
        assert entry["absent"]["label"] not in {s["label"] for s in entry["sources"]}
        assert len(entry["queries"]) == 4
        assert render(entry, catalogue).shape == (4, 2_048)
        gains = [s["gain_db"] for s in entry["sources"]]
        assert max(gains) - min(gains) <= 5.0
    count = len(catalogue.class_names)
    for wrong, message in ((1, "num_sources is 1"), (count + 1, f"least {count + 1}")):
        with pytest.raises(ValueError, match=message):
            build_manifest(catalogue, "seen", 1, 3, num_sources=wrong)


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_unreadable_manifests_are_named(tmp_path, content):
    path = tmp_path / "manifest.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=r"manifest is .*expected"):
        read_manifest(path)


def test_silent_clips_are_refused(catalogue):
    silent = {"seen": np.zeros_like(catalogue.clips["seen"])}
    with pytest.raises(ValueError, match="only silent crops"):
        build_manifest(catalogue._replace(clips=silent), "seen", 1, 0)


GOLDEN = "5c167369fe2e5567e4bef36c9614b2ae48bf5c63f5f5431ba3a87ebf912a9056"
