import json

import numpy as np
import pytest

from data_pipelines.catalogue import load_catalogue, rows_by_label, save_catalogue
from data_pipelines.levels import to_int16
from data_pipelines.synthetic import synthetic_catalogue


def _assert_equal(left, right):
    for name in left._fields:
        a, b = getattr(left, name), getattr(right, name)
        if isinstance(a, dict) and name.startswith("clip"):
            assert a.keys() == b.keys()
            for split in a:
                np.testing.assert_array_equal(a[split], b[split])
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b


@pytest.mark.parametrize("images_per_class", [0, 4])
def test_what_is_saved_is_loaded_again(tmp_path, images_per_class):
    made = synthetic_catalogue(
        2_048, crop_samples=1_024, clips_per_class=2, images_per_class=images_per_class
    )
    save_catalogue(made, tmp_path / "set")
    found = load_catalogue(tmp_path / "set")
    _assert_equal(made, found)
    assert isinstance(found.clips["train"], np.memmap)


def test_saving_leaves_no_temporary_files(tmp_path):
    save_catalogue(synthetic_catalogue(1_024, crop_samples=1_024), tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    splits = ("train", "validation", "seen", "unseen", "judge_train")
    assert names == {"catalogue.json", "images.npy"} | {
        f"clips_{split}.npy" for split in splits
    }


@pytest.mark.parametrize("damage", ["absent", "no json", "format", "no clips", "rows"])
def test_a_damaged_directory_is_named_in_one_line(tmp_path, damage):
    save_catalogue(synthetic_catalogue(1_024, crop_samples=1_024), tmp_path)
    path = tmp_path / "catalogue.json"
    if damage == "absent":
        path.unlink()
    elif damage == "no json":
        path.write_text("{")
    elif damage == "format":
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    elif damage == "no clips":
        (tmp_path / "clips_seen.npy").write_text("text")
    else:
        np.save(tmp_path / "clips_seen.npy", np.zeros((3, 1_024), np.int16))
    with pytest.raises(ValueError, match="expected") as error:
        load_catalogue(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_rows_by_label_finds_every_row_once_and_empty_classes():
    rows = rows_by_label(np.array([2, 0, 2, 2]), 4)
    assert [r.tolist() for r in rows] == [[1], [], [0, 2, 3], []]


def test_to_int16_keeps_the_level_and_never_clips():
    rng = np.random.default_rng(0)
    quiet = to_int16(1e-4 * rng.standard_normal(10_000))
    # Half a quantiser step of 1/32768 against 0.1: relative error under 1e-3.
    assert np.sqrt(np.mean((quiet / 32767) ** 2)) == pytest.approx(0.1, rel=1e-3)
    click = np.zeros(10_000)
    click[5] = 1.0
    assert np.abs(to_int16(click)).max() == round(0.99 * 32767)
    for bad in (np.zeros(10), np.full(10, np.nan)):
        with pytest.raises(ValueError, match="waveform has level"):
            to_int16(bad)


def test_synthetic_clips_differ_between_splits_and_seeds():
    one = synthetic_catalogue(1_024, crop_samples=512, seed=0)
    two = synthetic_catalogue(1_024, crop_samples=512, seed=1)
    every = np.concatenate([*one.clips.values(), *two.clips.values()])
    assert len(np.unique(every, axis=0)) == len(every)
    ids = [name for names in one.clip_id.values() for name in names]
    assert len(set(ids)) == len(ids)
