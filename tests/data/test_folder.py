"""A table of one's own recordings, from real files to a prepared data set."""

import importlib
import json
import pathlib
import sys

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds
from absl import flags
from PIL import Image

from data_pipelines import folder
from data_pipelines.catalogue import load_catalogue
from data_pipelines.folder_table import Row, find_table, fingerprint, read_table
from data_pipelines.manifest import read_manifest, verify
from marssep_jax.encoders.image import load_image

RATE, LENGTH, CROP = 8_000, 4_000, 3_000  # clips of half a second
ORIENTATION = 0x0112
CSV = """audio,label,caption,image,split
violin.wav,violin,a bowed violin,violin.png,train
flute.flac,flute,,flute.png,train
violin.wav,violin,"violin, solo",,test
low.wav,flute,,violin.png,test
"""


def tone(hz, seconds, rate):
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder of recordings at several rates and of pictures; no table."""
    base = tmp_path_factory.mktemp("recordings")
    both = np.stack([tone(440, 1.2, 16_000), tone(1_000, 1.2, 16_000)], axis=1)
    soundfile.write(base / "violin.wav", both, 16_000)
    soundfile.write(base / "flute.flac", tone(880, 0.6, 44_100), 44_100)
    soundfile.write(base / "low.wav", tone(200, 0.3, 8_000), 8_000, subtype="FLOAT")
    # One photograph lies on its side, one drawing has a transparent ground.
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 4), np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(pixels[..., :3]).save(base / "violin.png", exif=exif)
    Image.fromarray(pixels).save(base / "flute.png")
    return base


def write_table(recordings, tmp_path, text, name="table.csv"):
    """Write a table beside links to the recordings, and return its folder."""
    home = tmp_path / "table"
    home.mkdir()
    for path in recordings.iterdir():
        (home / path.name).symlink_to(path)
    (home / name).write_text(text, encoding="utf-8")
    return home


def prepare(home, root, lines=None, **sizes):
    sizes = {
        "sample_rate_hz": RATE,
        "num_samples": LENGTH,
        "crop_samples": CROP,
    } | sizes
    announce = (lambda line: None) if lines is None else lines.append
    return folder.prepare(home, root, announce=announce, **sizes)


@pytest.fixture(scope="module")
def prepared(recordings, tmp_path_factory):
    """The table above, prepared, with what was announced."""
    root, lines = tmp_path_factory.mktemp("prepared"), []
    home = write_table(recordings, root, CSV)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "OTHER_MIXTURES", 6)
        directory = prepare(home, root / "data", lines)
    return directory, lines, home


def spectrum(clip):
    """Magnitudes by bin; bins are 2 Hz apart."""
    return np.abs(np.fft.rfft(clip.astype(np.float64)))


def test_catalogue_holds_labels_captions_and_splits(prepared):
    catalogue = load_catalogue(prepared[0])
    assert catalogue.dataset == "folder"
    assert catalogue.class_names == ("flute", "violin")
    assert catalogue.families == (0, 1)
    # The label where a row has no caption, and each caption once.
    assert catalogue.texts == ("flute", "a bowed violin", "violin, solo")
    assert catalogue.text_label.tolist() == [0, 1, 1]
    assert (catalogue.sample_rate_hz, catalogue.num_samples) == (RATE, LENGTH)
    # 1.2 s make two clips of 0.5 s, 0.6 s make one, and so do 0.3 s.
    labels = {split: label.tolist() for split, label in catalogue.clip_label.items()}
    assert labels == {"train": [1, 1, 0], "test": [1, 1, 0]}
    for split, clips in catalogue.clips.items():
        assert (clips.shape, clips.dtype) == ((3, LENGTH), np.int16), split
    assert catalogue.clip_id["train"] == (
        "violin.wav#0@2",
        "violin.wav#1@2",
        "flute.flac#0@3",
    )
    described = catalogue.description
    assert described["crop_samples"] == CROP
    assert described["counts"] == {"train": 3, "test": 3, "pictures": 3}
    assert described["reduced"] is False


def test_clips_are_resampled_averaged_and_levelled(prepared):
    catalogue = load_catalogue(prepared[0])
    violin, _, flute = catalogue.clips["train"]
    # The stereo file holds one tone a channel: both are there, equally loud.
    order = np.argsort(spectrum(violin))[::-1]
    assert sorted(order[:2].tolist()) == [440 // 2, 1_000 // 2]
    np.testing.assert_allclose(*spectrum(violin)[[220, 500]], rtol=1e-3)
    assert np.argmax(spectrum(flute)) == 880 // 2
    # One tone from 44.1 kHz, away from the ends that the resampler rings at.
    time = np.arange(LENGTH) / RATE
    expected = 0.1 * np.sqrt(2) * np.sin(2 * np.pi * 880 * time)
    middle = slice(200, -200)
    # Half a quantiser step is 1.5e-5; the resampler's own error is below 1e-3.
    np.testing.assert_allclose(flute[middle] / 32_767, expected[middle], atol=1e-3)


def test_short_recordings_are_padded(prepared):
    low = load_catalogue(prepared[0]).clips["test"][2]
    heard = round(0.3 * RATE)
    assert np.any(low[heard - 20 : heard])
    assert not np.any(low[heard:])


def test_pictures_are_those_of_queries(prepared, recordings):
    catalogue = load_catalogue(prepared[0])
    assert catalogue.image_label.tolist() == [1, 0, 0]
    assert catalogue.image_split.tolist() == [0, 0, 1]
    for image, name in zip(
        catalogue.images, ("violin", "flute", "violin"), strict=True
    ):
        expected = load_image(recordings / f"{name}.png", folder.IMAGE_SIZE)
        np.testing.assert_array_equal(image, expected)


def test_tfds_reads_back_what_the_catalogue_holds(prepared):
    directory, _, _ = prepared
    catalogue = load_catalogue(directory)
    builder = tfds.builder_from_directory(directory)
    assert set(builder.info.splits) == {"train", "test"}
    for split, clips in catalogue.clips.items():
        found = {e["clip_id"].decode(): e for e in builder.as_data_source(split=split)}
        assert len(found) == len(clips)
        for row, name in enumerate(catalogue.clip_id[split]):
            np.testing.assert_array_equal(found[name]["audio"], clips[row])
            assert found[name]["label"] == catalogue.clip_label[split][row]


def test_tests_have_their_mixtures(prepared):
    directory, lines, home = prepared
    manifest = read_manifest(directory / "manifest_test.json")
    assert len(manifest["mixtures"]) == 6
    assert manifest["num_samples"] == CROP
    verify(manifest, load_catalogue(directory))
    assert not (directory / "manifest_train.json").exists()
    assert lines == [f"decoding 4 recordings of {home / 'table.csv'}"]


def test_nothing_but_the_data_set_is_left(prepared):
    directory, _, _ = prepared
    root = directory.parents[2]
    assert not [path for path in root.iterdir() if path.name.startswith(".folder-")]


def test_second_call_keeps_what_is_there(prepared):
    directory, _, home = prepared
    before, lines = (directory / "catalogue.json").stat().st_mtime_ns, []
    assert prepare(home, directory.parents[2], lines) == directory
    assert (directory / "catalogue.json").stat().st_mtime_ns == before
    assert lines == [f"already there: {directory}"]


def test_interrupted_preparation_is_completed(prepared, monkeypatch):
    directory, _, home = prepared
    kept = (directory / "catalogue.json").read_bytes()
    (directory / "catalogue.json").unlink()
    monkeypatch.setattr(folder, "OTHER_MIXTURES", 6)
    assert prepare(home, directory.parents[2]) == directory
    assert (directory / "catalogue.json").read_bytes() == kept


def test_log_names_no_clips(prepared):
    # TFDS logs the builder's settings, and a data set may have many clips.
    material = folder.Material(pathlib.Path("scratch"), LENGTH)
    material["train"] = [("violin.wav#0@2", 0, 0)]
    assert "violin" not in repr(folder.FolderConfig(name="x", material=material))


def test_jsonl_with_captions_alone(recordings, tmp_path):
    rows = [
        {"audio": "violin.wav", "caption": "A  bowed violin", "split": "train"},
        {"audio": "flute.flac", "caption": "someone plays a flute", "split": "train"},
        {"audio": "low.wav", "caption": "a hum", "split": "validation"},
    ]
    text = "\n\n".join(json.dumps(row) for row in rows) + "\n"
    home = write_table(recordings, tmp_path, text, "own.jsonl")
    lines = []
    directory = prepare(home, tmp_path / "data", lines)
    assert directory.parent.name.startswith("own-")
    catalogue = load_catalogue(directory)
    # Every caption is a class of its own.
    captions = ("A bowed violin", "a hum", "someone plays a flute")
    assert catalogue.class_names == catalogue.texts == captions
    assert catalogue.text_label.tolist() == [0, 1, 2]
    assert catalogue.clip_label["train"].tolist() == [0, 0, 2]
    assert catalogue.clip_label["validation"].tolist() == [1]
    assert catalogue.images.shape == (0, 48, 48, 3)
    assert lines[1:] == ["no manifest for validation: it has fewer than 2 classes"]


def test_another_table_or_recording_is_another_data_set(recordings, tmp_path):
    home = write_table(recordings, tmp_path, CSV)
    table = home / "table.csv"
    rows = read_table(table)
    first = fingerprint(table, rows)
    (home / "low.wav").unlink()
    soundfile.write(home / "low.wav", tone(300, 0.3, 8_000), 8_000)
    second = fingerprint(table, rows)
    table.write_text(CSV + "low.wav,flute,,,test\n")
    assert len({first, second, fingerprint(table, rows)}) == 3


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.01, 1), (0.5, 1), (0.74, 1), (0.76, 2), (1.2, 2)]
)
def test_a_rest_of_half_a_clip_or_more_is_kept(tmp_path, seconds, count):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(440, seconds, RATE), RATE)
    row = Row("t.csv:2", path, "a.wav", "x", "x", None, "train")
    clips = folder.read_clips(row, RATE, LENGTH)
    assert [clip.shape for clip in clips] == [(LENGTH,)] * count
    # An RMS of 0.1, save for the shortest, whose peak would clip.
    level = np.sqrt(np.mean((clips[0] / 32_767) ** 2))
    assert level == pytest.approx(0.1, rel=1e-3 if seconds > 0.1 else 1e-2)
    assert np.abs(clips[0]).max() <= round(0.99 * 32_767)


def test_silent_clips_are_left_out(tmp_path):
    sound = tone(440, 0.5, RATE)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([sound, 0 * sound, sound]), RATE)
    row = Row("t.csv:2", path, "a.wav", "x", "x", None, "train")
    assert len(folder.read_clips(row, RATE, LENGTH)) == 2


def test_files_without_a_split_are_shared_out_by_their_names(tmp_path):
    names = [f"{n}.wav" for n in range(400)]
    for name in names:
        (tmp_path / name).touch()

    def splits(names):
        table = tmp_path / "table.csv"
        table.write_text("audio,label\n" + "".join(f"{n},x\n" for n in names))
        return {row.name: row.split for row in read_table(table)}

    whole = splits(names)
    # A tenth each: 40 of 400, within four standard deviations of 6.
    for split in ("validation", "test"):
        assert 16 < list(whole.values()).count(split) < 64
    assert set(whole.values()) == {"train", "validation", "test"}
    # Fewer files leave every other where it was.
    assert splits(names[::3]) == {name: whole[name] for name in names[::3]}


def test_table_may_come_from_a_spreadsheet(recordings, tmp_path):
    # A byte order mark, spaces in the header, a column without a name, blanks.
    text = "\ufeffaudio , label,\r\nviolin.wav,  my \t violin ,\r\n\r\nlow.wav,hum,\r\n"
    rows = read_table(write_table(recordings, tmp_path, text) / "table.csv")
    assert [(row.name, row.label, row.caption) for row in rows] == [
        ("violin.wav", "my violin", "my violin"),
        ("low.wav", "hum", "hum"),
    ]
    assert rows[1].where.endswith("table.csv:4")


def test_the_table_is_found(recordings, tmp_path):
    home = write_table(recordings, tmp_path, CSV)
    assert find_table(home) == find_table(home / "table.csv") == home / "table.csv"
    (home / "more.jsonl").touch()
    with pytest.raises(ValueError, match=r"exactly one .* found more.jsonl, table.csv"):
        find_table(home)
    with pytest.raises(
        ValueError, match=r"exactly one \.csv or \.jsonl in it, found none"
    ):
        find_table(recordings)
    with pytest.raises(ValueError, match="expected an existing folder or table"):
        find_table(home / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1: columns are missing, expected audio and label or caption"),
        ("audio,label\n", " has no rows, expected at least one recording"),
        ("audio;label\n", ":1: columns are audio;label, expected audio and label"),
        ("audio,split\n", ":1: columns are audio, split, expected audio and label"),
        ("label,caption\n", ":1: columns are label, caption, expected audio"),
        (
            "audio,label,spilt\nlow.wav,x,train\n",
            ":1: column is 'spilt', expected audio, label, caption, image, split",
        ),
        (
            "audio,caption,split\nlow.wav,a dog, barking,train\n",
            ":2: cells beyond the last column are 'train', expected quotes",
        ),
        (
            "audio,label\nlow.wav,x\ngone.wav,x\n",
            ":3: audio is 'gone.wav', expected an existing file",
        ),
        (
            "audio,label\n.,x\ngone.wav,x\n",
            ":2: audio is '.', expected an existing file (and 1 more bad rows)",
        ),
        ("audio,label\n,x\n", ":2: audio is empty, expected a path"),
        ("audio,label\nlow.wav\n", ":2: label is empty, expected a label or a caption"),
        (
            "audio,label,image\nlow.wav,x,gone.png\n",
            ":2: image is 'gone.png', expected an existing file",
        ),
        (
            "audio,label,split\nlow.wav,x,My test\n",
            ":2: split is 'My test', expected train, validation or test",
        ),
        (
            "audio,label,split\nlow.wav,x,all\n",
            ":2: split is 'all', expected train, validation or test",
        ),
    ],
)
def test_bad_tables_are_named_in_one_line(recordings, tmp_path, text, message):
    home = write_table(recordings, tmp_path, text)
    with pytest.raises(ValueError, match="expected") as error:
        prepare(home, tmp_path / "data")
    assert str(error.value).startswith(f"{home / 'table.csv'}{message}")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "expected one JSON object on the line"),
        ("[1, 2]", "expected one JSON object on the line"),
        ('{"audio": 5, "label": "x"}', "audio is 5, expected text"),
        ('{"label": "x"}', "audio is empty, expected a path"),
        ('{"audio": "low.wav", "labels": "x"}', "column is 'labels', expected audio"),
    ],
)
def test_bad_lines_of_jsonl_are_named(recordings, tmp_path, line, message):
    good = '{"audio": "low.wav", "label": "x"}\n'
    home = write_table(recordings, tmp_path, good + line, "table.jsonl")
    with pytest.raises(ValueError, match="expected") as error:
        read_table(home / "table.jsonl")
    assert str(error.value).startswith(f"{home / 'table.jsonl'}:2: {message}")


def test_a_table_that_is_no_text_is_named(tmp_path):
    (tmp_path / "table.csv").write_bytes(b"audio,label\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"table\.csv cannot be read, expected a CSV"):
        read_table(tmp_path / "table.csv")


def broken(recordings, path, damage):
    """Write a damaged recording or picture."""
    if damage == "text":
        path.write_text("hello")
    elif damage == "silent":
        soundfile.write(path, np.zeros(8_000), RATE)
    elif damage == "without samples":
        soundfile.write(path, np.zeros(0), RATE)
    elif damage == "cancelled":
        sound = tone(440, 1.0, RATE)
        soundfile.write(path, np.stack([sound, -sound], axis=1), RATE)
    elif damage == "not finite":
        soundfile.write(path, np.full(8_000, np.nan), RATE, subtype="FLOAT")
    else:  # half the length: the next chunk is looked for amid the pixels
        whole = bytearray((recordings / "violin.png").read_bytes())
        start = whole.index(b"IDAT")
        length = int.from_bytes(whole[start - 4 : start])
        whole[start - 4 : start] = (length // 2).to_bytes(4)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("text", "readable audio"),
        ("silent", "something to be heard"),
        ("without samples", "something to be heard"),
        ("cancelled", "something to be heard"),
        ("not finite", "finite samples"),
    ],
)
def test_bad_recordings_are_named_in_one_line(recordings, tmp_path, damage, message):
    home = write_table(recordings, tmp_path, CSV + "bad.wav,violin,,,train\n")
    broken(recordings, home / "bad.wav", damage)
    with pytest.raises(ValueError, match="expected") as error:
        prepare(home, tmp_path / "data")
    table = home / "table.csv"
    assert str(error.value) == f"{table}:6: audio is 'bad.wav', expected {message}"
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("damage", ["text", "chunk"])
def test_bad_pictures_are_named_in_one_line(recordings, tmp_path, damage):
    bad = "low.wav,violin,,bad.png,train\n"
    home = write_table(recordings, tmp_path, CSV + bad + bad)
    broken(recordings, home / "bad.png", damage)
    with pytest.raises(ValueError, match="expected") as error:
        prepare(home, tmp_path / "data")
    assert str(error.value) == (
        f"{home / 'table.csv'}:6: image is {str(home / 'bad.png')!r}, expected a "
        "readable picture (and 1 more bad rows)"
    )
    assert not list((tmp_path / "data").iterdir())


def test_one_class_is_refused(recordings, tmp_path):
    text = "audio,label\nviolin.wav,violin\nlow.wav, violin\n"
    home = write_table(recordings, tmp_path, text)
    with pytest.raises(ValueError, match="the one label 'violin', expected at least 2"):
        prepare(home, tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("crop", [0, LENGTH + 1])
def test_crops_must_fit_into_clips(recordings, tmp_path, crop):
    home = write_table(recordings, tmp_path, CSV)
    with pytest.raises(ValueError, match=f"crop_samples is {crop}, expected 1 to"):
        prepare(home, tmp_path / "data", crop_samples=crop)


def test_builder_alone_says_what_to_do(tmp_path):
    config = folder.FolderConfig(name="nothing")
    builder = folder.Folder(data_dir=tmp_path, config=config)
    with pytest.raises(ValueError, match=r"material is None, expected folder\.prepare"):
        builder.download_and_prepare()


@pytest.fixture
def program():
    """The program's module with its flags at their defaults, unregistered again."""
    known, loaded = set(flags.FLAGS), "experiments.prepare" in sys.modules
    parsed = flags.FLAGS.is_parsed()
    module = importlib.import_module("experiments.prepare")
    flags.FLAGS.mark_as_parsed()
    kept = {name: flags.FLAGS[name].value for name in ("json", "dataset", "manual_dir")}
    yield module
    for name, value in kept.items():
        flags.FLAGS[name].value = value
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    if not loaded:
        del sys.modules["experiments.prepare"]
    if not parsed:
        flags.FLAGS.unparse_flags()


def test_program_tells_what_it_made(program, prepared, tmp_path, capsys):
    directory = prepared[0]
    flags.FLAGS["json"].value = str(tmp_path / "summary.json")
    program.summarise(directory)
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"prepared folder in {directory}",
        "2 classes, 3 captions",
        "  train: 3",
        "  test: 3",
        "  pictures: 3",
    ]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["dataset"] == "folder"
    assert summary["directory"] == str(directory)
    assert summary["counts"] == {"train": 3, "test": 3, "pictures": 3}
    assert summary["reduced"] is False


def test_program_wants_a_table_for_a_folder(program):
    flags.FLAGS["dataset"].value = "folder"
    with pytest.raises(ValueError, match="manual_dir is missing, expected a table"):
        program._manual_dir()
    flags.FLAGS["manual_dir"].value = "somewhere"
    assert program._manual_dir() == "somewhere"
    flags.FLAGS["dataset"].value = "instruments"
    assert program._manual_dir() is None
