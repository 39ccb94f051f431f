"""The published lists, in every form, good and bad."""

import json

import pytest

from data_pipelines.video_lists import Item, read_lists

CSV = 'AAAAAAAAAAA,30,"playing violin, fiddle",train\nBBBBBBBBBBB,0,dog barking,test\n'
TARGET = "data/vggsound/audio/e2rM750cFGc_000242.wav,data/frames/x,12,playing bongo\n"
OLD = "data/audio/k/L/kLyY8uCoYUQ.wav,data/vggsound/preprocessed/k/L/x,11,car, horn\n"
SOLO = "/data/solo/audio/violin/w81p5ty4OZc.wav,/data/solo/frames/violin/w81,131"


def read(folder, dataset="vggsound"):
    return read_lists(folder, dataset)


def test_official_list(tmp_path):
    (tmp_path / "vggsound.csv").write_text(CSV)
    lists = read(tmp_path)
    assert lists.files == [tmp_path / "vggsound.csv"]
    first, second = lists.items
    assert first.id == "AAAAAAAAAAA_000030"
    assert (first.label, first.video, first.start_s) == (
        "playing violin fiddle",
        "AAAAAAAAAAA",
        30,
    )
    assert second == Item("BBBBBBBBBBB_000000", "dog barking", "test", "B" * 11, 0)


def test_lists_of_splits(tmp_path):
    home = tmp_path / "lists"
    home.mkdir()
    (home / "test.csv").write_text(TARGET + "\n" + OLD)
    (home / "val.csv").write_text(TARGET.replace("e2r", "f2r"))
    lists = read(tmp_path)
    assert lists.items == [
        Item(
            "f2rM750cFGc_000242", "playing bongo", "validation", "f2rM750cFGc", 242, 12
        ),
        Item("e2rM750cFGc_000242", "playing bongo", "test", "e2rM750cFGc", 242, 12),
        # An older list: no second in the name, commas in the label.
        Item("kLyY8uCoYUQ", "car horn", "test", "kLyY8uCoYUQ", None, 11),
    ]
    assert lists.repeated == []


def test_music_lists_and_their_leaks(tmp_path):
    (tmp_path / "train.csv").write_text(f"{SOLO}\n{SOLO.replace('w81', 'x81')}\n")
    (tmp_path / "val.csv").write_text(f"{SOLO},violin\n{SOLO.replace('w81', 'y81')}\n")
    (tmp_path / "test.csv").write_text(f"{SOLO},violin\n{SOLO},violin\n")
    lists = read(tmp_path, "music")
    assert [(item.id, item.split) for item in lists.items] == [
        ("violin/x81p5ty4OZc", "train"),
        ("violin/y81p5ty4OZc", "validation"),
        ("violin/w81p5ty4OZc", "test"),
    ]
    assert lists.items[2] == Item(
        "violin/w81p5ty4OZc", "violin", "test", "w81p5ty4OZc", None, 131
    )
    leaked = "violin/w81p5ty4OZc"
    assert lists.repeated == [
        f"{leaked} (train)",
        f"{leaked} (validation)",
        f"{leaked} (test)",
    ]


def test_music_classes(tmp_path):
    videos = {c: [f"{c}{n:08d}" for n in range(200)] for c in ("cello", "flute")}
    (tmp_path / "MUSIC_solo_videos.json").write_text(json.dumps({"videos": videos}))
    items = read(tmp_path, "music").items
    assert len(items) == 400
    assert {item.label for item in items} == {"cello", "flute"}
    counts = {s: sum(i.split == s for i in items) for s in ("validation", "test")}
    # A tenth each: 40 of 400, within four standard deviations of 6.
    assert all(16 < count < 64 for count in counts.values())
    assert items[0].id == f"{items[0].label}/{items[0].video}"


def test_validation_is_shared_out_by_the_ids(tmp_path):
    rows = [f"{n:011d},{n},class {n % 3},train" for n in range(300)]
    (tmp_path / "vggsound.csv").write_text("\n".join(rows))
    whole = {item.id: item.split for item in read(tmp_path).items}
    assert 10 < list(whole.values()).count("validation") < 50  # 30 expected
    assert set(whole.values()) == {"train", "validation"}
    (tmp_path / "vggsound.csv").write_text("\n".join(rows[::2]))
    assert {i.id: i.split for i in read(tmp_path).items}.items() <= whole.items()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "vggsound.csv",
            CSV + "CCC,30,x\n",
            ":3: row is 'CCC,30,x', expected video id",
        ),
        (
            "vggsound.csv",
            CSV + "CCC,now,x,train\n",
            ":3: row is 'CCC,now,x,train', exp",
        ),
        ("vggsound.csv", "A,1,x,train\nA,1,x,dev\nA\n", ":2: row is 'A,1,x,dev', expe"),
        ("vggsound.csv", "", " has no rows, expected at least one video"),
        ("vggsound.csv", '"A\n', ":1: row is"),
        (
            "test.csv",
            TARGET + "a.wav,frames\n",
            ":2: row is 'a.wav,frames', expected a",
        ),
        ("test.csv", TARGET + "a.wav,f,12\n", ":2: label is '', expected a label of"),
        (
            "train.csv",
            "a.wav,f,many,x\n",
            ":1: row is 'a.wav,f,many,x', expected audio",
        ),
    ],
)
def test_bad_rows_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="expected") as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name}{message}")
    assert "\n" not in str(caught.value)


def test_several_bad_rows_are_counted(tmp_path):
    (tmp_path / "vggsound.csv").write_text("A\nB\nC,1,x,train\n")
    with pytest.raises(ValueError, match=r":1: row is 'A'.* \(and 1 more bad rows\)"):
        read(tmp_path)


def test_music_without_class(tmp_path):
    (tmp_path / "test.csv").write_text("a.wav,f,12\n")
    with pytest.raises(
        ValueError, match=r":1: audio is 'a.wav', expected a path CLASS"
    ):
        read(tmp_path, "music")


@pytest.mark.parametrize("text", ["{}", "[1]", "no", '{"videos": 3}'])
def test_bad_classes(tmp_path, text):
    path = tmp_path / "MUSIC_solo_videos.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no list of MUSIC, expected"):
        read(tmp_path, "music")


def test_list_that_is_no_text(tmp_path):
    (tmp_path / "vggsound.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(
        ValueError, match=r"vggsound.csv cannot be read, expected a CSV"
    ):
        read(tmp_path)


def test_no_lists(tmp_path):
    with pytest.raises(
        ValueError, match=r"expected a published list in it: vggsound.c"
    ):
        read(tmp_path)
    with pytest.raises(
        ValueError, match=r"published list in it: MUSIC\*solo\*.json, or"
    ):
        read(tmp_path, "music")
    with pytest.raises(ValueError, match="expected an existing folder"):
        read(tmp_path / "nowhere")
