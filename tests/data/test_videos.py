"""A folder of films and the published lists, from the program to the catalogue."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines import video_catalogue
from data_pipelines.catalogue import load_catalogue
from data_pipelines.manifest import read_manifest, verify
from data_pipelines.videos import ACCOUNT, Music, Vggsound, VideosConfig
from tests.support.video_folders import RATE, make_folder, make_music
from tests.support.videos import make_video

LENGTH, CROP, SIZE = 16_000, 12_000, 32  # clips of two seconds
SMALL = VideosConfig(
    name="small", sample_rate_hz=RATE, num_samples=LENGTH, image_size=SIZE
)


def prepare(dataset, home, root, lines=None, **changes):
    sizes = {
        "sample_rate_hz": RATE,
        "num_samples": LENGTH,
        "crop_samples": CROP,
        "image_size": SIZE,
        "workers": 1,
    }
    announce = (lambda line: None) if lines is None else lines.append
    return video_catalogue.prepare(
        dataset, home, root, announce=announce, **(sizes | changes)
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """VGGSound in small, prepared, with what was announced."""
    root, lines = tmp_path_factory.mktemp("vggsound"), []
    home = make_folder(root / "films")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_catalogue, "OTHER_MIXTURES", 6)
        directory = prepare("vggsound", home, root / "data", lines)
    return directory, lines, home


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    root = tmp_path_factory.mktemp("music")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(video_catalogue, "OTHER_MIXTURES", 6)
        return prepare("music", make_music(root / "solo"), root / "data")


class VggsoundTest(tfds.testing.DatasetBuilderTestCase):
    """What TFDS asks of every builder."""

    DATASET_CLASS = Vggsound
    BUILDER_CONFIG_NAMES_TO_TEST = (SMALL,)
    SPLITS = {"train": 7, "validation": 1, "test": 10}  # noqa: RUF012  TFDS reads it so
    MOCK_OUT_FORBIDDEN_OS_FUNCTIONS = False  # folders of videos are local

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.EXAMPLE_DIR = make_folder(Path(cls.folder.name) / "films")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()


class MusicTest(VggsoundTest):
    DATASET_CLASS = Music
    SPLITS = {"train": 8, "validation": 2, "test": 2}  # noqa: RUF012  TFDS reads it so

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.EXAMPLE_DIR = make_music(Path(cls.folder.name) / "solo")


def test_account_names_every_video(prepared):
    directory, lines, home = prepared
    account = json.loads((directory / ACCOUNT).read_text())
    assert account["lists"] == [str(home / "vggsound.csv")]
    assert len(account["present"]) == 18
    assert account["missing"] == ["gone-------_000003"]
    reasons = account["unreadable"]
    assert reasons.keys() == {
        "nosound----_000003",
        "silent-----_000003",
        "cut--------_000003",
    }
    assert reasons["nosound----_000003"] == "no sound: the file has no audio stream"
    assert reasons["silent-----_000003"] == "silent: nothing to be heard"
    assert "Invalid data" in reasons["cut--------_000003"]
    film = {"recorded---_000003": "no film: the file has no video stream"}
    assert account["without_pictures"] == film
    assert lines[0] == "vggsound: 21 of 22 videos are there"
    assert lines[-4].startswith("vggsound: 18 present, 1 missing, 3 unreadable; 1 with")
    assert lines[-3].startswith("  unreadable: nosound----_000003: no sound: ")


def test_catalogue_holds_what_could_be_read(prepared):
    catalogue = load_catalogue(prepared[0])
    assert catalogue.dataset == "vggsound"
    assert catalogue.class_names == ("dog barking", "playing violin fiddle")
    assert catalogue.texts == catalogue.class_names
    counts = {split: len(clips) for split, clips in catalogue.clips.items()}
    assert counts == {"train": 7, "validation": 1, "test": 10}
    for clips in catalogue.clips.values():
        assert isinstance(clips, np.memmap)
        assert (clips.shape[1], clips.dtype) == (LENGTH, np.int16)
    row = catalogue.clip_id["test"].index("te-00000103_000030")
    assert catalogue.clip_label["test"][row] == 1
    spectrum = np.abs(np.fft.rfft(catalogue.clips["test"][row].astype(np.float64)))
    assert np.argmax(spectrum) == 2 * (200 + 20 * 3 + 10)  # bins of half a hertz
    described = catalogue.description
    assert described["counts"] == counts | {"pictures": 8 + 9 + 9}
    assert described["videos"] == {"present": 18, "missing": 1, "unreadable": 3}
    assert described["crop_samples"] == CROP


def test_levels_are_those_of_the_recordings(prepared):
    """A published protocol mixes at native levels, so nothing is normalised."""
    clips = load_catalogue(prepared[0]).clips["train"] / 32_768
    level = np.sqrt(np.mean(clips**2, axis=1))
    np.testing.assert_allclose(level, 0.3 / np.sqrt(2), rtol=0.03)  # AAC's error


def test_short_video_is_repeated(prepared):
    catalogue = load_catalogue(prepared[0])
    assert catalogue.description["repeated_clips"] == ["tiny-------_000003"]
    row = catalogue.clip_id["test"].index("tiny-------_000003")
    clip = catalogue.clips["test"][row]
    half = RATE // 2
    np.testing.assert_array_equal(clip[half : 2 * half], clip[:half])


def test_pictures_are_central_frames(prepared):
    catalogue = load_catalogue(prepared[0])
    names = catalogue.description["image_names"]
    assert len(catalogue.images) == len(names) == len(catalogue.image_label)
    assert catalogue.images.shape[1:] == (SIZE, SIZE, 3)
    # Two seconds: training keeps the second frame, tests keep both.
    for name, image, split in zip(
        names, catalogue.images, catalogue.image_split, strict=True
    ):
        clip, number = name.split("/")
        assert split == int(clip not in catalogue.clip_id["train"])
        np.testing.assert_allclose(image, 20 * (int(number) - 1), atol=4)
        if split == 0:
            assert number == "000002"


def test_tfds_reads_back_what_the_catalogue_holds(prepared):
    catalogue = load_catalogue(prepared[0])
    builder = tfds.builder_from_directory(prepared[0])
    assert set(builder.info.splits) == set(catalogue.clips)
    for split, clips in catalogue.clips.items():
        found = {e["clip_id"].decode(): e for e in builder.as_data_source(split=split)}
        assert len(found) == len(clips)
        for row, name in enumerate(catalogue.clip_id[split]):
            np.testing.assert_array_equal(found[name]["audio"], clips[row])
            label = catalogue.clip_label[split][row]
            assert found[name]["label"] == label
            assert found[name]["caption"].decode() == catalogue.class_names[label]
    assert len(found["recorded---_000003"]["frames"]) == 0
    assert np.asarray(found["te-00000103_000030"]["frames"]).shape == (2, 32, 32, 3)


def test_mixtures(prepared):
    manifest = read_manifest(prepared[0] / "manifest_test.json")
    assert len(manifest["mixtures"]) == 6
    verify(manifest, load_catalogue(prepared[0]))
    assert "no manifest for validation: it has fewer than 2 classes" in prepared[1]


def test_second_call_keeps_what_is_there(prepared):
    directory, _, home = prepared
    before, lines = (directory / "catalogue.json").stat().st_mtime_ns, []
    assert prepare("vggsound", home, directory.parents[2], lines) == directory
    assert (directory / "catalogue.json").stat().st_mtime_ns == before
    assert lines[0] == f"already there: {directory}"
    assert lines[1].startswith("vggsound: 18 present, 1 missing, 3 unreadable")


def test_more_videos_are_added_to_what_was_extracted(tmp_path, monkeypatch):
    monkeypatch.setattr(video_catalogue, "OTHER_MIXTURES", 2)
    home, lines = make_folder(tmp_path / "films"), []
    directory = prepare("vggsound", home, tmp_path / "data")
    extracted = next((tmp_path / "data" / "vggsound").glob("extracted-*"))
    before = {p: p.stat().st_mtime_ns for p in extracted.rglob("*.npz")}
    # What a kill may leave behind.
    draft = next(iter(before)).with_name(".x.npz.1.partial")
    draft.touch()
    unfinished = directory.with_name("incomplete.XYZ_1.0.0")
    unfinished.mkdir()
    make_video(home / "gone-------_000003.mp4", 2.0, hz=999.0)
    assert prepare("vggsound", home, tmp_path / "data", lines) == directory
    assert lines[0] == "vggsound: 22 of 22 videos are there"
    after = {p: p.stat().st_mtime_ns for p in extracted.rglob("*.npz")}
    assert len(after) == len(before) + 1
    assert {p: after[p] for p in before} == before
    assert "gone-------_000003" in load_catalogue(directory).clip_id["test"]
    assert not draft.exists()
    assert not unfinished.exists()


def test_music_is_cut_into_clips(music):
    catalogue = load_catalogue(music)
    # 7.25 s make three clips of 2 s and one more, which overlaps: 1.25 s are left.
    assert catalogue.clip_id["train"] == tuple(
        f"{label}/{label[0]}{0:010d}#{n}"
        for label in ("cello", "flute")
        for n in range(4)
    )
    assert catalogue.description["clip_start_s"]["train"] == 2 * [0, 2, 4, 5.25]
    # Tests take the clip around second frames // 2 - 1/2.
    assert catalogue.clip_id["test"] == (f"cello/c{2:010d}", f"flute/f{2:010d}")
    assert catalogue.description["clip_start_s"]["test"] == [3.5, 3.5]
    assert catalogue.description["clip_start_s"]["validation"] == [2.5, 2.5]
    # Pictures belong to the seconds of their clip.
    shown = [round(float(image.mean())) for image in catalogue.images[:4]]
    np.testing.assert_allclose(shown, [20, 60, 100, 120], atol=4)


def test_two_at_once_are_kept_apart(prepared):
    directory, _, home = prepared
    root = directory.parents[2]
    with (
        video_catalogue._alone(root / "vggsound", root),
        pytest.raises(ValueError, match="where vggsound is not being prepared already"),
    ):
        prepare("vggsound", home, root)


def refused(home, root, expected, **changes):
    with pytest.raises(ValueError, match="expected") as caught:
        prepare("vggsound", home, root, **changes)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(root.rglob("catalogue.json"))


def test_nothing_to_read(tmp_path):
    home = tmp_path / "films"
    home.mkdir()
    refused(home, tmp_path / "data", "expected a published list in it: vggsound.csv")
    rows = "A----------,0,x,train\nB----------,0,y,test\n"
    (home / "vggsound.csv").write_text(rows)
    refused(home, tmp_path / "data", "in it: 2 are missing, 0 unreadable")
    make_video(home / "A----------_000000.mp4", 1.0, audio=None)
    expected = "1 are missing, 1 unreadable, the first: A----------_000000: no sound"
    refused(home, tmp_path / "data", expected)
    make_video(home / "A----------_000000.mp4", 1.0)
    refused(home, tmp_path / "data", "at least 2 labels: all that can be read are 'x'")
    refused(home, tmp_path / "data", "crop_samples is 0, expected 1", crop_samples=0)
    assert json.loads(next(tmp_path.rglob(ACCOUNT)).read_text())["missing"]
