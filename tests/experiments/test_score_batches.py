"""Rows are the same whoever scores them, and survive whatever stops them."""

import json

import jax
import numpy as np
import pytest

from data_pipelines.manifest import render
from experiments import score_batches
from experiments.evaluation_plan import make_plan
from experiments.score_rows import RowsFile, collect, read_all
from marssep_jax.evaluation import BASELINES, NEGATIVE_KIND, summarise
from marssep_jax.metrics import si_sdr
from tests.support.random_models import save_mixtures, save_random_model

NUM_SAMPLES, NUM_MIXTURES, BATCH_SIZE = 2_047, 7, 2
ONE = jax.devices()[:1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    save_mixtures(folder, NUM_MIXTURES, NUM_SAMPLES)
    save_random_model(folder / "model", NUM_SAMPLES)
    return folder


def plan_of(folder, **options):
    return make_plan(
        **{
            "checkpoint": str(folder / "model"),
            "manifest": str(folder / "manifest_unseen.json"),
            "kinds": ("text", "image", "negative"),
            "judge_names": ("own",),
            "baselines": ("ideal_ratio_mask",),
        }
        | options
    )


@pytest.fixture(scope="module")
def plan(folder):
    return plan_of(folder)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(score_batches, "BATCH_SIZE", BATCH_SIZE)


def score(plan, path, batches=range(4), **options):
    with RowsFile(path, plan.run) as file:
        score_batches.score(plan.work, file, batches, **options)
    return path


@pytest.fixture(scope="module")
def rows(plan, tmp_path_factory):
    """Return the rows that one device writes when nobody disturbs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_batches, "BATCH_SIZE", BATCH_SIZE)
        path = tmp_path_factory.mktemp("rows") / "scores.jsonl"
        return score(plan, path, devices=ONE).read_bytes()


def test_devices_in_turn_write_the_same_bytes(plan, rows, tmp_path):
    path = score(plan, tmp_path / "a.jsonl", devices=jax.devices()[:2])
    assert path.read_bytes() == rows


def test_shares_make_the_same_summary(plan, rows, tmp_path):
    whole = tmp_path / "whole.jsonl"
    whole.write_bytes(rows)
    # The later share first, as hosts may end in any order.
    parts = [
        score(plan, tmp_path / f"{share}.jsonl", range(share, 4, 2), devices=ONE)
        for share in (1, 0)
    ]
    assert sorted(b"".join(p.read_bytes() for p in parts).splitlines()) == sorted(
        rows.splitlines()
    )

    def text(paths):
        found = collect(read_all(paths, plan.run, 4), plan.names)
        return json.dumps({n: summarise(one.evaluation) for n, one in found.items()})

    assert text(parts) == text([whole])
    with pytest.raises(ValueError, match="expected all 4 batches in it, but 2 are mis"):
        text(parts[:1])


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.6, 0.99])
def test_goes_on_after_a_crash_anywhere(plan, rows, tmp_path, share):
    path, cut = tmp_path / "a.jsonl", int(share * len(rows))
    path.write_bytes(rows[:cut])
    scored = []
    score(plan, path, on_batch=scored.append, devices=ONE)
    assert path.read_bytes() == rows
    # What was there as a whole was not scored again: 2, 2, 2, 1 mixtures.
    left = int(share * 3.5) * BATCH_SIZE
    assert scored[-1] == NUM_MIXTURES - left


def test_nothing_is_scored_twice(plan, rows, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(rows)
    score(plan, path, on_batch=lambda count: pytest.fail("scored again"))
    assert path.read_bytes() == rows


def test_what_an_error_leaves_behind(plan, rows, tmp_path):
    """The batches before a broken one are kept; a file without rows is not."""
    entries = plan.work.mixtures

    def broken(number):
        changed = [dict(entry) for entry in entries]
        changed[number]["sha256"] = "0"
        manifest = plan.work.tests.manifest | {"mixtures": changed}
        tests = plan.work.tests._replace(manifest=manifest)
        return plan._replace(work=plan.work._replace(tests=tests))

    path = tmp_path / "a.jsonl"
    with pytest.raises(ValueError, match="mixture unseen-0000 has SHA-256"):
        score(broken(0), path, devices=ONE)
    assert not path.exists()
    with pytest.raises(ValueError, match="mixture unseen-0006 has SHA-256"):
        score(broken(6), path, devices=ONE)
    kept = path.read_bytes()
    assert 0 < len(kept) < len(rows)
    assert rows.startswith(kept)


def test_rows_of_another_evaluation_are_refused(folder, plan, rows, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(rows)
    for options, part in (
        ({"kinds": ("text",)}, "its settings was"),
        ({"judge_names": ("own",), "baselines": ()}, "its checkpoint was"),
    ):
        other = plan_of(folder, **options)
        with pytest.raises(ValueError, match=rf"a\.jsonl', expected rows .*{part}"):
            score(other, path)
    save_random_model(tmp_path / "other", NUM_SAMPLES, seed=1)
    other = plan_of(folder, checkpoint=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="its checkpoint was"):
        score(other, path)
    assert path.read_bytes() == rows


@pytest.mark.parametrize("text", ["text", "{}\n", '[1]\n{"run": "a"}\n'])
def test_other_files_are_left_alone(plan, tmp_path, text):
    path = tmp_path / "thesis.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected rows of an evaluation or a new"):
        score(plan, path)
    assert path.read_text() == text


def test_a_file_that_another_process_writes(plan, tmp_path):
    path = tmp_path / "a.jsonl"
    with (
        RowsFile(path, plan.run),
        pytest.raises(ValueError, match="that no other process writes"),
    ):
        score(plan, path)


def test_rows_say_what_there_is_to_know(plan, rows):
    found = [json.loads(line) for line in rows.splitlines()]
    kinds = {(row["system"], row["kind"]) for row in found}
    assert kinds == {
        *(("mixture", "none"), ("ideal_ratio_mask", "none")),
        *(("model", kind) for kind in ("text", "image", "negative")),
    }
    assert len(found) == NUM_MIXTURES * len(kinds) * 2
    assert [row["mixture"] for row in found[:10]] == ["unseen-0000"] * 10
    for row in found:
        # The last class of the synthetic set has no pictures.
        unasked = row["kind"] == "image" and row["label"] == 5
        assert row["status"] == ("unasked" if unasked else "scored")
        assert ("si_sdr_db" in row) != unasked
        first = row["kind"] == "text" and row["target"] == 0
        assert ("absent_db" in row) == first


def test_the_mixture_gains_nothing_and_ideal_masks_much(plan, rows, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(rows)
    found = collect(read_all([path], plan.run, 4), plan.names)
    mixture = found["mixture"].evaluation.scores["none"]
    np.testing.assert_allclose(mixture["si_sdri_db"], 0, atol=1e-4)
    np.testing.assert_allclose(mixture["sdri_db"], 0, atol=1e-4)
    ideal = found["ideal_ratio_mask"].evaluation.scores["none"]
    assert ideal["si_sdri_db"].mean() > 10
    assert found["model"].missing == ()


def test_ideal_masks_are_what_they_say():
    """Two tones apart: both masks part them; the mixture is their sum."""
    time = np.arange(8_192) / 8_192
    tones = np.sin(2 * np.pi * np.array([[400.0], [1_200.0]]) * time)
    target = np.stack([tones, tones * [[1.0], [0.0]]]).astype(np.float32)
    made = {name: np.asarray(fn(target)) for name, fn in BASELINES.items()}
    whole = target.sum(axis=1, keepdims=True) + np.zeros_like(target)
    np.testing.assert_allclose(made["mixture"], whole, atol=1e-6)
    for name in ("ideal_ratio_mask", "ideal_binary_mask"):
        assert np.asarray(si_sdr(made[name][0], target[0])).min() > 35
        # Alone, a source is the mixture, and nothing is left for the silent one.
        np.testing.assert_allclose(made[name][1], target[1], atol=1e-5)
    ratio = made["ideal_ratio_mask"].sum(axis=1)
    np.testing.assert_allclose(ratio, target.sum(axis=1), atol=1e-5)


def test_what_nobody_asks_for_and_what_is_not_scored(folder, plan, tmp_path):
    """A manifest may ask for the first source alone, and score a beginning."""
    manifest = json.loads((folder / "manifest_unseen.json").read_text())
    manifest["scored_samples"] = 1_200
    manifest["mixtures"] = manifest["mixtures"][:2]
    for entry in manifest["mixtures"]:
        entry["queries"][1] = None
    (folder / "manifest_asked.json").write_text(json.dumps(manifest))
    own = plan_of(folder, manifest=str(folder / "manifest_asked.json"))
    path = score(own, tmp_path / "a.jsonl", range(1), devices=ONE)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for row in found:
        silent_query = row["kind"] == "negative"  # no words for the other source
        asked = row["target"] == 0 and not silent_query
        asked &= row["kind"] != "image" or row["label"] != 5
        assert row["status"] == ("scored" if asked else "unasked")
    entry, catalogue = manifest["mixtures"][0], plan.work.tests.data.catalogue
    sources = render(entry, catalogue)[:, :1_200]
    expected = si_sdr(sources.sum(axis=0), sources[0])
    assert found[0]["si_sdr_db"] == pytest.approx(float(expected), abs=1e-4)


def test_masks_other_than_the_mode(folder, rows, tmp_path):
    """A draw is the same on every call, and neither the mode nor the mean."""
    texts = {}
    for mask in ("mode", "mean", "sample", "sample"):
        own = plan_of(folder, mask=mask, kinds=("text",), baselines=())
        name = tmp_path / f"{mask}{len(texts)}"
        lines = score(own, name, devices=ONE).read_text().splitlines()
        texts[name] = [json.loads(line)["si_sdr_db"] for line in lines[2:4]]
    mode, mean, first, again = texts.values()
    assert first == again
    assert len({*map(tuple, (mode, mean, first))}) == 3


def test_bad_plans(folder):
    for options, message in (
        ({"kinds": ("smell",)}, "queries is 'smell', expected some of text, .*negat"),
        ({"baselines": ("magic",)}, "baselines has 'magic', expected some of mixture,"),
        ({"checkpoint": None}, "checkpoint is missing, expected it or estimates"),
        ({"estimates": ["no"]}, "estimates is 'no', expected an existing folder"),
        ({"judge_names": ["clap:"]}, "judges is 'clap:', expected one clap:FOLDER"),
    ):
        with pytest.raises(ValueError, match=message):
            plan_of(folder, **options)
    assert NEGATIVE_KIND == "negative"
