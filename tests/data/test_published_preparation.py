"""Published benchmarks prepared from real files, whole and with files missing."""

import copy
import json
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from data_pipelines.catalogue import load_catalogue
from data_pipelines.manifest import read_manifest, render, verify
from data_pipelines.published.benchmarks import BENCHMARKS
from data_pipelines.published.clean_plus import read_pairs
from data_pipelines.published.preparation import prepare_published
from data_pipelines.published.recordings import central_crop, crop_start
from marssep_jax.metrics import bss_eval, sdr
from tests.support.noises import RATE_HZ, write_noise
from tests.support.videos import make_video

VGGSOUND, MUSIC = "vggsound_clean_plus", "music_clean_plus"
SIZES = {VGGSOUND: 98, MUSIC: 46}
SCORED = 65_280


def prepare(name, manual_dir, data_dir, **options):
    """Prepare a benchmark; return its catalogue, its manifest and what was said."""
    lines = []
    folder = prepare_published(
        BENCHMARKS[name], manual_dir, data_dir, announce=lines.append, **options
    )
    return load_catalogue(folder), read_manifest(folder / "manifest_test.json"), lines


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A tiny noise file for each clip of both lists.

    Those of VGGSound last a sixth of a second, which is repeated; those of MUSIC are
    minutes of silence, with as much noise where their crop lies.
    """
    base = tmp_path_factory.mktemp("recordings")
    rows = [row for name in SIZES for row in read_pairs(name)]
    clips = {row[key] for row in rows for key in ("target", "interferer")}
    for clip in clips:
        if "/" not in clip:
            write_noise(base / f"{clip}.wav", 2_500)
    for row in read_pairs(MUSIC):
        path, start = base / f"{row['target']}.flac", crop_start(row["frames"], RATE_HZ)
        write_noise(path, 2_500, after=start + 1_000)
    return base


@pytest.fixture(scope="module")
def whole(recordings, tmp_path_factory):
    """Both lists with all their recordings there."""
    root = tmp_path_factory.mktemp("whole")
    return {name: prepare(name, recordings, root) for name in SIZES}


@pytest.fixture
def copied(recordings, tmp_path):
    """A copy of the recordings that a test may damage."""
    return shutil.copytree(recordings, tmp_path / "copied", copy_function=shutil.copy)


@pytest.mark.parametrize("name", SIZES)
def test_whole_list_makes_all_its_mixtures(whole, name):
    catalogue, manifest, lines = whole[name]
    assert len(manifest["mixtures"]) == SIZES[name]
    assert manifest["left_out"] == []
    assert (manifest["sample_rate_hz"], manifest["num_samples"]) == (16_000, 65_535)
    assert manifest["scored_samples"] == SCORED
    assert f"{SIZES[name]} of {SIZES[name]} mixtures, SHA-256" in "\n".join(lines)
    verify(manifest, catalogue)
    for entry, row in zip(manifest["mixtures"], read_pairs(name), strict=True):
        clips = [source["clip_id"] for source in entry["sources"]]
        assert clips == [row["target"], row["interferer"]]
        assert [source["gain"] for source in entry["sources"]] == [0.5, 0.5]
        starts = [(row[k] // 2 - 0.5) * 16_000 - 32_767 for k in FRAMES]
        assert [source["start"] for source in entry["sources"]] == starts
        labels = [catalogue.class_names[s["label"]] for s in entry["sources"]]
        assert labels == [row["label"], row["interferer_label"]]
        query, nothing = entry["queries"]
        assert nothing is None
        assert catalogue.texts[query["text_id"]] == row["label"]


FRAMES = ("frames", "interferer_frames")


def test_sources_are_the_crops_at_half_their_level(whole, recordings):
    catalogue, manifest, _ = whole[MUSIC]
    for entry, row in zip(manifest["mixtures"][:5], read_pairs(MUSIC), strict=False):
        waves = render(entry, catalogue)
        for wave, clip, frames in zip(
            waves, (row["target"], row["interferer"]), FRAMES, strict=True
        ):
            (path,) = recordings.glob(f"{clip}.*")
            audio, _ = soundfile.read(path, dtype="int16")
            crop = central_crop(audio, row[frames], RATE_HZ)
            np.testing.assert_array_equal(wave, crop / np.float32(65_536))


def test_untouched_mixture_has_the_sdr_of_a_direct_computation(whole):
    catalogue, manifest, lines = whole[VGGSOUND]
    direct, plain, images = [], [], []
    for entry in manifest["mixtures"][:8]:
        target, rest = render(entry, catalogue)[:, :SCORED]
        ratio = np.sum(target.astype(np.float64) ** 2) / np.sum(
            rest.astype(np.float64) ** 2
        )
        direct.append(10 * np.log10(ratio))
        plain.append(float(sdr(target + rest, target)))
    few = copy.deepcopy(manifest)
    del few["mixtures"][2:]
    sources = np.stack([render(entry, catalogue) for entry in few["mixtures"]])
    sources = sources[..., :SCORED]
    mixture = np.broadcast_to(sources.sum(axis=1, keepdims=True), sources.shape)
    images = bss_eval(mixture, sources).sdr[:, 0]
    # float32 sums of 65280 squares.
    np.testing.assert_allclose(plain, direct, atol=1e-3)
    np.testing.assert_allclose(images, direct[:2], atol=1e-3)
    # Noises of one level, all of them: 0 dB in the mean but for where crops end.
    every = [10 * np.log10(power(e, catalogue)) for e in manifest["mixtures"]]
    assert manifest["untouched_sdr_db"] == pytest.approx(np.mean(every), abs=1e-4)
    assert lines[-1] == f"untouched mixture: mean SDR {np.mean(every):.2f} dB"


def power(entry, catalogue):
    target, rest = render(entry, catalogue)[:, :SCORED].astype(np.float64)
    return np.sum(target**2) / np.sum(rest**2)


def users(name, clip):
    """Return the mixtures of a list that a clip is in."""
    return [
        f"{name}-{row['number']:04d}"
        for row in read_pairs(name)
        if clip in (row["target"], row["interferer"])
    ]


def test_a_missing_recording_moves_no_other_mixture(whole, copied, tmp_path):
    manifest = whole[VGGSOUND][1]
    gone = "dfA32yXUIHE_000020"
    (copied / f"{gone}.wav").unlink()
    fewer, found, lines = prepare(VGGSOUND, copied, tmp_path / "data")
    assert users(VGGSOUND, gone) == [f"{VGGSOUND}-0049"]
    assert found["left_out"] == [
        {"id": f"{VGGSOUND}-0049", "recordings": {gone: "missing"}}
    ]
    assert "1 mixtures left out, for recordings: 1 missing" in lines
    assert f"  {VGGSOUND}-0049: {gone} is missing" in lines
    # Every other mixture is the same to the last bit, and so is its entry.
    kept = [e for e in manifest["mixtures"] if e["id"] != f"{VGGSOUND}-0049"]
    assert found["mixtures"] == kept
    assert len(kept) == 97
    assert found["mixtures_sha256"] != manifest["mixtures_sha256"]
    verify(found, fewer)
    # Embeddings that were kept of other recordings must not be taken for these.
    assert found["version"] != manifest["version"]


def test_every_way_a_recording_can_fail_is_named(copied, tmp_path, whole):
    rows = read_pairs(MUSIC)
    missing, broken, silent = (rows[n]["target"] for n in (1, 2, 3))
    shared = rows[3]["interferer"]  # of mixtures 3 and 4
    (copied / f"{missing}.flac").unlink()
    (copied / f"{broken}.flac").write_bytes(b"fLaC")
    write_noise(copied / f"{silent}.flac", 4_000, peak=0)
    (copied / f"{shared}.wav").unlink()
    _, found, lines = prepare(MUSIC, copied, tmp_path / "data")
    assert {left["id"]: left["recordings"] for left in found["left_out"]} == {
        f"{MUSIC}-0001": {missing: "missing"},
        f"{MUSIC}-0002": {broken: "unreadable: no audio file"},
        f"{MUSIC}-0003": {shared: "missing"},
        f"{MUSIC}-0004": {shared: "missing"},
    }
    assert len(found["mixtures"]) == 42
    expected = "4 mixtures left out, for recordings: 2 missing, 1 unreadable"
    assert expected in lines
    # With the interferer back, the silent target is what is left to complain of.
    write_noise(copied / f"{shared}.wav", 2_500)
    _, found, lines = prepare(MUSIC, copied, tmp_path / "data")
    named = {left["id"]: left["recordings"] for left in found["left_out"]}
    assert named[f"{MUSIC}-0003"] == {silent: "silent"}
    assert f"{MUSIC}-0004" not in named
    whole_entries = {e["id"]: e for e in whole[MUSIC][1]["mixtures"]}
    assert all(entry == whole_entries[entry["id"]] for entry in found["mixtures"])


def test_other_forms_of_a_recording_are_taken_and_noted(copied, tmp_path, whole):
    rows = read_pairs(VGGSOUND)
    other_rate, stereo, long = (copied / f"{rows[n]['target']}.wav" for n in range(3))
    write_noise(other_rate, 441_000, rate_hz=44_100)
    write_noise(stereo, 160_000, channels=2)
    write_noise(long, 100_000)
    catalogue, found, _ = prepare(VGGSOUND, copied, tmp_path / "data")
    assert len(found["mixtures"]) == 98
    changed = {path.stem for path in (other_rate, stereo, long)}
    before = {entry["id"]: entry for entry in whole[VGGSOUND][1]["mixtures"]}
    for entry in found["mixtures"]:
        touched = changed & {source["clip_id"] for source in entry["sources"]}
        same = entry["sha256"] == before[entry["id"]]["sha256"]
        assert same == (not touched), entry["id"]
    assert other_rate.stem not in found["notes"]
    assert stereo.stem not in found["notes"]
    assert found["notes"][long.stem] == "has 6.25 s, its crop ends in zeros"
    assert found["notes"][rows[3]["target"]] == "has 0.16 s, repeated to fill its crop"
    verify(found, catalogue)


def test_frames_ask_for_targets(copied, tmp_path):
    clip = "e2rM750cFGc_000242"
    (copied / "frames" / clip).mkdir(parents=True)
    for number in (4, 5, 6, 8):  # of 5, 6 and 7, the last is not there
        picture = Image.new("RGB", (30, 20), (10 * number, 0, 0))
        picture.save(copied / "frames" / clip / f"{number:06d}.jpg")
    catalogue, found, _ = prepare(VGGSOUND, copied, tmp_path / "data", image_size=8)
    first, second = found["mixtures"][:2]
    assert first["queries"][0]["image_ids"] == [0, 1]
    assert second["queries"][0]["image_ids"] == []
    assert catalogue.images.shape == (2, 8, 8, 3)
    np.testing.assert_allclose(
        catalogue.images[:, 4, 4, 0], [50, 60], atol=3
    )  # twice JPEG
    assert catalogue.class_names[catalogue.image_label[0]] == "playing didgeridoo"


def test_videos_serve_as_well_as_recordings(copied, tmp_path):
    clip = "e2rM750cFGc_000242"
    (copied / f"{clip}.wav").unlink()
    make_video(copied / "e2rM750cFGc_242.mp4", 10.0, rate=16_000, fps=2)
    catalogue, found, _ = prepare(VGGSOUND, copied, tmp_path / "data", image_size=8)
    first = found["mixtures"][0]
    spectrum = np.abs(np.fft.rfft(render(first, catalogue)[0].astype(np.float64)))
    assert np.argmax(spectrum) == round(440 * 65_535 / 16_000)
    # Frames 5, 6 and 7 of one a second, from 1: greys of 4, 5 and 6 times 20.
    assert first["queries"][0]["image_ids"] == [0, 1, 2]
    greys = catalogue.images[:3].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(greys, [80, 100, 120], atol=5)  # twice lossy
    (copied / "e2rM750cFGc_242.mp4").write_bytes(b"no video")
    _, found, _ = prepare(VGGSOUND, copied, tmp_path / "data", image_size=8)
    (left,) = found["left_out"]
    assert left["recordings"][clip].startswith("unreadable: ")


def test_nothing_there(tmp_path):
    with pytest.raises(
        ValueError, match=r"cannot be used, the first: e2rM750cFGc_000242 is missing"
    ):
        prepare(VGGSOUND, tmp_path, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    with pytest.raises(ValueError, match="sample_rate_hz is 8000, expected 16000"):
        prepare(VGGSOUND, tmp_path, tmp_path, sample_rate_hz=8_000)


def test_manifest_is_plain_json(whole):
    manifest = whole[MUSIC][1]
    assert json.loads(json.dumps(manifest, allow_nan=False)) == manifest
