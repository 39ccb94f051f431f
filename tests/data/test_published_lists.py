"""The published lists, held against the rule and the hashes that identify them."""

import hashlib
import random

import pytest

from data_pipelines.folder_table import BadRows
from data_pipelines.published.benchmarks import BENCHMARKS
from data_pipelines.published.clean_plus import (
    POOL_SIZE,
    SHA256,
    hash_pairs,
    read_pairs,
    read_plan,
)
from data_pipelines.published.local_lists import read_audiosep, read_dcase

VGGSOUND, MUSIC = "vggsound_clean_plus", "music_clean_plus"
# Targets of VGGSOUND-clean+ that the pool of MUSIC-clean+ leaves out.
MUSICAL = (
    *(0, 5, 7, 9, 15, 30, 32, 36, 40, 42, 46, 49, 56, 58, 63, 65, 68, 73, 75, 79),
    *(84, 85, 92, 94),
)
FIRST_DRAWS = {
    VGGSOUND: [3155, 1100, 463, 1949, 1933, 5102, 4700, 2652],
    MUSIC: [49, 17, 7, 30, 30, 32, 73, 41],
}


@pytest.mark.parametrize(("name", "size"), [(VGGSOUND, 98), (MUSIC, 46)])
def test_list_is_the_one_of_its_hash(name, size, tmp_path):
    rows = read_pairs(name)
    assert [row["number"] for row in rows] == list(range(size))
    assert hash_pairs(rows) == SHA256[name]
    assert BENCHMARKS[name].size == size
    plan = read_plan(name, tmp_path)
    assert plan.sha256 == SHA256[name]
    assert [m.id for m in plan.mixtures] == [f"{name}-{n:04d}" for n in range(size)]


def test_hash_is_of_lines_without_classes():
    rows = [
        {"target": "cello/one", "interferer": "two_000003"},
        {"target": "tuba/x", "interferer": "y_000000"},
    ]
    expected = hashlib.sha256(b"one two_000003\nx y_000000").hexdigest()
    assert hash_pairs(rows) == expected


@pytest.mark.parametrize("name", [VGGSOUND, MUSIC])
def test_interferers_are_drawn_by_the_published_rule(name):
    """Target i takes the row that a Mersenne Twister seeded with i draws."""
    drawn = [row["pool_row"] for row in read_pairs(name)]
    assert drawn[:8] == FIRST_DRAWS[name]
    last = POOL_SIZE[name] - 1
    assert drawn == [random.Random(i).randint(0, last) for i in range(len(drawn))]


def test_interferers_of_music_are_rows_of_its_pool():
    targets = read_pairs(VGGSOUND)
    pool = [row for row in targets if row["number"] not in MUSICAL]
    assert len(pool) == POOL_SIZE[MUSIC]
    for row in read_pairs(MUSIC):
        other = pool[row["pool_row"]]
        assert row["interferer"] == other["target"]
        assert row["interferer_label"] == other["label"]
        assert row["interferer_frames"] == other["frames"]


def test_facts_of_the_pairs():
    rows = read_pairs(VGGSOUND)
    assert [r["number"] for r in rows if r["label"] == r["interferer_label"]] == [
        55,
        76,
    ]
    assert len({row["interferer"] for row in rows}) == 94
    assert len({row["interferer"] for row in read_pairs(MUSIC)}) == 37
    # A row of the pool is one clip, and a clip has one label and one length.
    for columns in (("pool_row", "interferer"), ("interferer", "pool_row")):
        assert len({tuple(row[c] for c in columns) for row in rows}) == 94
    frames = {(r["target"], r["label"], r["frames"]) for r in rows}
    frames |= {
        (r["interferer"], r["interferer_label"], r["interferer_frames"]) for r in rows
    }
    assert len(frames) == len({clip for clip, _, _ in frames})


def test_dcase_list_with_spaces_in_its_header(tmp_path):
    (tmp_path / "lass_validation").mkdir()
    (tmp_path / "lass_synthetic_validation.csv").write_text(
        "source, noise, snr, caption\n"
        '1_2-hq,3_4-hq,-13,"A bell, far away."\n'
        "3_4-hq,1_2-hq,10,Rain.\n"
    )
    plan = read_dcase("dcase", tmp_path)
    first, second = plan.mixtures
    assert (first.id, first.words, first.snr_db) == (
        "dcase-0000",
        "A bell, far away.",
        -13.0,
    )
    assert [r.id for r in first.recordings] == ["1_2-hq", "3_4-hq"]
    assert second.recordings[0].file == tmp_path / "lass_validation" / "3_4-hq.wav"


@pytest.mark.parametrize(
    ("row", "number"),
    [("a,b,loud,Rain.", 2), ("a,b,nan,Rain.", 2), ("a,b,3", 2), ("a,,3,Rain.", 2)],
)
def test_bad_rows_are_named_by_their_line(tmp_path, row, number):
    table = tmp_path / "lass_synthetic_validation.csv"
    table.write_text(f"source, noise, snr, caption\n{row}\na,b,3,Rain.\n")
    with pytest.raises(BadRows, match=rf"validation.csv:{number}: row is ") as caught:
        read_dcase("dcase", tmp_path)
    assert str(caught.value).endswith("source, noise, SNR in dB, caption")


# As they stand in AudioSep's lists; Clotho's header has one name twice.
AUDIOSEP = {
    "audiocaps": (
        "idx,caption,labels,src_wav,noise_wav\n"
        '7,A dog barks,"Dog, Bark",Ya.wav,Yb.wav\n',
        ("segment-7.wav", "mixture-7.wav", "A dog barks"),
    ),
    "clotho": (
        "idx,caption,src_wav,noise_wav1,noise_wav1\n7,Rain.,a b.wav,c.wav,d.wav\n",
        ("segment-7.wav", "mixture-7.wav", "Rain."),
    ),
    "esc50": (
        "idx,caption,src_wav,noise_wav\n7,can opening,1-A-34.wav,2-B-29.wav\n",
        ("segment-7.wav", "mixture-7.wav", "can opening"),
    ),
    "music": (
        "idx,caption,src_wav,noise_wav\n7,tuba,Ya_0.wav,Yb_6.wav\n",
        ("segment-7.wav", "mixture-7.wav", "tuba"),
    ),
    "audioset": (
        "idx,caption,src_wav,noise_wav\n0,Speech,"
        '"evaluation/data/audioset/class_id=0/class_id=0,index=000,source.wav",'
        '"evaluation/data/audioset/class_id=0/class_id=0,index=000,mixture.wav"\n',
        (
            "class_id=0/class_id=0,index=000,source.wav",
            "class_id=0/class_id=0,index=000,mixture.wav",
            "Speech",
        ),
    ),
    "vggsound": (
        "file_id,mix_wav,s0_wav,s0_text,s1_wav,s1_text\n"
        "a+++b,data/mix_wav/a+++b.wav,data/s0_wav/a+++b.wav,"
        '"race car, auto racing",data/s1_wav/a+++b.wav,hail\n',
        ("data/s0_wav/a+++b.wav", "data/mix_wav/a+++b.wav", "race car, auto racing"),
    ),
}


@pytest.mark.parametrize("which", AUDIOSEP)
@pytest.mark.parametrize("place", ["evaluation", ""])
def test_audiosep_lists(tmp_path, which, place):
    text, (target, mixture, words) = AUDIOSEP[which]
    home = tmp_path / "evaluation"
    (home / "metadata").mkdir(parents=True)
    (home / "metadata" / f"{which}_eval.csv").write_text(text)
    (home / "data" / which).mkdir(parents=True)
    # The folder of the lists, or the repository that holds it.
    manual_dir = tmp_path / place
    (planned,) = read_audiosep("x", which, manual_dir).mixtures
    assert planned.words == words
    base = home / "data" / which
    assert [r.file for r in planned.recordings] == [base / target, base / mixture]


def test_no_list(tmp_path):
    with pytest.raises(ValueError, match=r"expected the list esc50_eval\.csv in it"):
        read_audiosep("x", "esc50", tmp_path)
    with pytest.raises(ValueError, match="expected an existing folder"):
        read_plan(VGGSOUND, tmp_path / "absent")
