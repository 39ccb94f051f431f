import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from data_pipelines.pipeline import (
    MixtureSpec,
    alignment_batches,
    mixture_batches,
)
from data_pipelines.streams import read_crops
from data_pipelines.synthetic import synthetic_catalogue

SPEC = MixtureSpec(batch_size=6, num_absent=1, seed=3, num_samples=1_024)


@pytest.fixture(scope="module")
def catalogue():
    return synthetic_catalogue(1_500, crop_samples=1_024, clips_per_class=5)


def _take(stream, count):
    batches = list(itertools.islice(stream, count))
    stream.close()
    return batches


def _assert_same(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_shapes_and_types(catalogue):
    (batch,) = _take(mixture_batches(catalogue, "train", SPEC), 1)
    assert {name: (v.dtype.name, v.shape) for name, v in batch.items()} == {
        "target": ("float32", (6, 3, 1_024)),
        "label": ("int32", (6, 3)),
        "clip_id": ("int32", (6, 3)),
        "text_id": ("int32", (6, 3)),
        "audio_id": ("int32", (6, 3)),
        "image_id": ("int32", (6, 3)),
        "query_weight": ("float32", (6, 3, 3)),
    }


def test_rows_belong_to_their_labels(catalogue):
    spec = MixtureSpec(batch_size=64, num_absent=1, num_samples=1_024)
    (batch,) = _take(mixture_batches(catalogue, "train", spec), 1)
    label = batch["label"]
    assert all(len(set(row)) == 3 for row in label.tolist())
    assert (batch["clip_id"][:, 2] == -1).all()
    clip_label = catalogue.clip_label["train"]
    clips = batch["clip_id"][:, :2]
    np.testing.assert_array_equal(clip_label[clips], label[:, :2])
    np.testing.assert_array_equal(clip_label[batch["audio_id"]], label)
    assert (batch["audio_id"][:, :2] != clips).all()
    np.testing.assert_array_equal(catalogue.text_label[batch["text_id"]], label)
    seen = batch["image_id"] >= 0
    pictures = batch["image_id"][seen]
    np.testing.assert_array_equal(catalogue.image_label[pictures], label[seen])
    assert (catalogue.image_split[pictures] == 0).all()
    np.testing.assert_array_equal(seen, label != 5)  # that class has no picture
    weight = batch["query_weight"]
    np.testing.assert_allclose(weight.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(weight[..., 2] > 0, seen)


def test_sources_are_their_clips_at_their_gain(catalogue):
    spec = MixtureSpec(
        batch_size=8, num_samples=1_500, eq_db=0.0, gain_db=5.0, num_absent=1
    )
    (batch,) = _take(mixture_batches(catalogue, "train", spec), 1)
    target = batch["target"]
    assert (target[:, 2] == 0).all()
    level = 20 * np.log10(np.sqrt(np.mean(target[:, :2] ** 2, -1)))
    assert (np.abs(level + 20) <= 5.001).all()  # LEVEL is -20 dB
    assert np.ptp(level) > 2  # gains differ
    clips = catalogue.clips["train"][batch["clip_id"][:, :2]].astype(np.float64)
    for made, clip in zip(
        target[:, :2].reshape(-1, 1_500), clips.reshape(-1, 1_500), strict=True
    ):
        # No offset is possible and no EQ wanted: a pure gain of the clip is left.
        scale = made @ clip / (clip @ clip)
        np.testing.assert_allclose(made, scale * clip, atol=1e-6)


def test_batches_are_reproducible_and_differ(catalogue):
    first = _take(mixture_batches(catalogue, "train", SPEC), 3)
    again = _take(mixture_batches(catalogue, "train", SPEC), 3)
    for left, right in zip(first, again, strict=True):
        _assert_same(left, right)
    assert not np.array_equal(first[0]["target"], first[1]["target"])
    other = MixtureSpec(batch_size=6, num_absent=1, seed=4, num_samples=1_024)
    (changed,) = _take(mixture_batches(catalogue, "train", other), 1)
    assert not np.array_equal(first[0]["label"], changed["label"])


def test_resumed_stream_continues_bit_for_bit(catalogue):
    whole = _take(mixture_batches(catalogue, "train", SPEC), 5)
    stream = mixture_batches(catalogue, "train", SPEC)
    next(stream), next(stream)
    state = stream.state()
    stream.close()
    assert state == {"step": 2}
    rest = _take(mixture_batches(catalogue, "train", SPEC, start_step=state["step"]), 3)
    for left, right in zip(whole[2:], rest, strict=True):
        _assert_same(left, right)


@pytest.mark.parametrize("hosts", [2, 3])
def test_hosts_hold_disjoint_slices_of_one_batch(catalogue, hosts):
    (whole,) = _take(mixture_batches(catalogue, "train", SPEC, start_step=7), 1)
    parts = [
        _take(
            mixture_batches(
                catalogue,
                "train",
                SPEC,
                start_step=7,
                process_index=host,
                process_count=hosts,
            ),
            1,
        )[0]
        for host in range(hosts)
    ]
    for name, value in whole.items():
        joined = np.concatenate([part[name] for part in parts])
        if name == "target":
            # The equaliser's small matrix product may sum in another order.
            np.testing.assert_allclose(joined, value, atol=1e-6)
        else:
            np.testing.assert_array_equal(joined, value, err_msg=name)


def test_same_family_share_makes_hard_mixtures(catalogue):
    families = np.asarray(catalogue.families)
    for share, expected in ((1.0, 1.0), (0.0, 0.2)):  # by chance 1 of 5 others
        spec = MixtureSpec(256, num_samples=64, same_family_share=share, eq_db=0.0)
        (batch,) = _take(mixture_batches(catalogue, "train", spec), 1)
        family = families[batch["label"]]
        found = np.mean(family[:, 0] == family[:, 1])
        # 256 draws at 0.2 have a standard error of 0.025; four of them.
        assert found == pytest.approx(expected, abs=0.1)
        assert (batch["label"][:, 0] != batch["label"][:, 1]).all()


def test_crops_read_what_they_should_and_wrap_round():
    clips = np.arange(20, dtype=np.int16).reshape(2, 10)
    crops = read_crops(clips, np.array([0, 1, 1]), np.array([2, 0, 7]), 5)
    assert crops.tolist() == [
        [2, 3, 4, 5, 6],
        [10, 11, 12, 13, 14],
        [17, 18, 19, 10, 11],
    ]


def test_alignment_batches_hold_the_right_classes(catalogue):
    # Without augmentation each output can be recognised as its clip.
    stream = alignment_batches(
        catalogue, "train", 12, 5, residue_share=0.0, num_samples=1_500, eq_db=0.0
    )
    (batch,) = _take(stream, 1)
    assert np.bincount(batch["label"], minlength=6).tolist() == [2] * 6

    def rows(waves):
        clips = catalogue.clips["train"].astype(np.float64)
        clips /= np.linalg.norm(clips, axis=1, keepdims=True)
        match = waves / np.linalg.norm(waves, axis=1, keepdims=True) @ clips.T
        np.testing.assert_allclose(match.max(1), 1.0, atol=1e-6)
        return match.argmax(1)

    label = catalogue.clip_label["train"]
    audio, view = rows(batch["audio"]), rows(batch["view"])
    positive, negative = rows(batch["positive"]), rows(batch["negative"])
    np.testing.assert_array_equal(audio, view)
    assert not np.allclose(batch["audio"], batch["view"])  # another gain
    np.testing.assert_array_equal(label[audio], batch["label"])
    np.testing.assert_array_equal(label[positive], batch["label"])
    assert (positive != audio).all()
    # Families hold the classes 2i and 2i + 1.
    np.testing.assert_array_equal(label[negative], batch["label"] ^ 1)


def test_residue_stays_in_its_range(catalogue):
    kwargs = {"num_samples": 1_500, "eq_db": 0.0, "gain_db": 0.0}
    clean = alignment_batches(catalogue, "train", 60, 5, residue_share=0.0, **kwargs)
    dirty = alignment_batches(catalogue, "train", 60, 5, residue_share=0.5, **kwargs)
    (clean,), (dirty,) = _take(clean, 1), _take(dirty, 1)
    residue = np.sqrt(np.mean((dirty["audio"] - clean["audio"]) ** 2, -1))
    has = residue > 1e-6
    # 60 draws at 0.5 have a standard error of 0.065; four of them.
    assert has.mean() == pytest.approx(0.5, abs=0.26)
    level = 20 * np.log10(residue[has]) + 20
    assert (level >= -26.01).all()
    assert (level <= -3.99).all()
    assert np.ptp(level) > 5


@pytest.mark.parametrize("heard", [("audio",), ("view", "negative")])
def test_waveforms_left_out_change_no_other(catalogue, heard):
    whole = _take(alignment_batches(catalogue, "train", 4, 1), 2)
    part = _take(alignment_batches(catalogue, "train", 4, 1, heard=heard), 2)
    ids = {"label", "text_id", "image_id"}
    for batch, reference in zip(part, whole, strict=True):
        assert batch.keys() == ids | set(heard)
        for name, value in batch.items():
            np.testing.assert_array_equal(value, reference[name])


def test_unknown_waveforms_are_named(catalogue):
    with pytest.raises(ValueError, match=r"heard is 'noise', expected some of"):
        alignment_batches(catalogue, "train", 4, 1, heard=("audio", "noise"))


def test_alignment_resumes_and_shards(catalogue):
    whole = _take(alignment_batches(catalogue, "train", 4, 1), 3)
    rest = _take(alignment_batches(catalogue, "train", 4, 1, start_step=2), 1)
    _assert_same(whole[2], rest[0])
    half = alignment_batches(catalogue, "train", 4, 1, process_index=1, process_count=2)
    (half,) = _take(half, 1)
    np.testing.assert_array_equal(half["label"], whole[0]["label"][2:])
    # As above: another order of summation in the equaliser.
    np.testing.assert_allclose(half["audio"], whole[0]["audio"][2:], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"same_family_share": 2.0}, "same_family_share is 2.0"),
        ({"query_concentration": 0.0}, "query_concentration is 0.0"),
    ],
)
def test_bad_numbers_of_a_mixture_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        MixtureSpec(**{"batch_size": 6} | changes)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"num_samples": 9_999}, {}, "num_samples is 9999"),
        ({"num_sources": 7}, {}, "has 6 classes"),
        ({}, {"process_count": 4}, "process_count is 4"),
        ({}, {"process_index": 1}, "process_index is 1"),
        ({}, {"start_step": -1}, "start_step is -1"),
    ],
)
def test_bad_numbers_of_a_stream_are_named(catalogue, changes, options, message):
    spec = MixtureSpec(**{"batch_size": 6, "num_samples": 1_024} | changes)
    with pytest.raises(ValueError, match=message):
        mixture_batches(catalogue, "train", spec, **options)


def test_unknown_split_is_named(catalogue):
    with pytest.raises(ValueError, match="split is 'dev', expected one of"):
        mixture_batches(catalogue, "dev", SPEC)


def test_half_read_streams_end_without_hanging():
    # TensorFlow's iterator waits for its threads while it holds Python's lock. The
    # child drops streams mid-way and then leaves with one still running.
    code = """
        from data_pipelines.pipeline import MixtureSpec, mixture_batches
        from data_pipelines.synthetic import synthetic_catalogue
        catalogue = synthetic_catalogue(4_096, crop_samples=4_096)
        spec = MixtureSpec(64, num_samples=4_096)
        for _ in range(15):
            stream = mixture_batches(catalogue, "train", spec)
            next(stream)
        print("left")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=100,  # a hang is for ever; this only has to exceed a slow import
    )
    assert result.stdout.strip() == "left", result.stderr[-500:]
    assert result.returncode == 0
