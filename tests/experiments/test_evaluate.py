"""The program that evaluates, as it is called."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
import soundfile

from data_pipelines.catalogue import load_catalogue
from data_pipelines.manifest import read_manifest, render
from tests.support.random_models import save_mixtures, save_random_model

pytestmark = pytest.mark.slow

NUM_SAMPLES, NUM_MIXTURES = 1_151, 40


@pytest.fixture(scope="module", autouse=True)
def four_devices():
    """Let every program have four devices; the number of threads is a device's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with mixtures, two models and a peer's estimates."""
    folder = tmp_path_factory.mktemp("evaluate")
    save_mixtures(folder, NUM_MIXTURES, NUM_SAMPLES)
    for seed in (0, 1):
        save_random_model(folder / f"model{seed}", NUM_SAMPLES, seed)
    write_mixtures_as_estimates(folder, folder / "peer")
    return folder


def write_mixtures_as_estimates(folder, place):
    """Write the mixture in every source's place, under numbers and under classes."""
    catalogue = load_catalogue(folder)
    for entry in read_manifest(folder / "manifest_unseen.json")["mixtures"]:
        wave = render(entry, catalogue).sum(axis=0)
        names = ["0", catalogue.class_names[entry["sources"][1]["label"]]]
        for name in names:
            path = place / entry["id"] / f"{name.replace(' ', '_')}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, wave, catalogue.sample_rate_hz, subtype="FLOAT")


def flags_of(folder, json_path, *more):
    return [
        *(f"--checkpoint={folder / 'model0'}", f"--compare={folder / 'model1'}"),
        *(f"--manifest={folder / 'manifest_unseen.json'}", "--queries=text,negative"),
        *(f"--estimates={folder / 'peer'}", f"--json={json_path}", *more),
    ]


@pytest.fixture(scope="module")
def whole(folder, program):
    """Return what an evaluation on one device printed, its JSON and its rows."""
    argv = flags_of(folder, folder / "s.json", "--devices=1")
    outcome = program("experiments.evaluate", *argv)
    assert outcome.code == 0, outcome.err
    paths = folder / "s.json", folder / "s.rows.jsonl"
    return outcome, *(path.read_bytes() for path in paths)


def test_table_and_record(whole, folder):
    outcome, text, _ = whole
    record = json.loads(text)
    titles = [row["title"] for row in record["table"]]
    assert titles[:3] == ["mixture", "ideal ratio mask", "ideal binary mask"]
    assert titles[3:] == [
        str(folder / n) for n in ("model0",) * 2 + ("model1",) * 2 + ("peer",)
    ]
    mixture, peer = record["table"][0], record["table"][-1]
    for metric in ("si_sdr_db", "sdr_db", "sir_db", "judge"):
        # The peer hands in the mixture: by the same code it gets the same scores.
        assert peer[metric] == pytest.approx(mixture[metric], abs=1e-5)
        assert peer["ci95"][metric] == pytest.approx(mixture["ci95"][metric], abs=1e-5)
    assert set(record["evaluation"]) == {"text", "negative"}
    assert len(record["items"]) == 2 * 2 * NUM_MIXTURES
    pair = record["paired"]["text"]["si_sdri_db"]
    assert 0 <= pair["wilcoxon_p"] <= 1
    assert pair["ci95"][0] <= pair["mean"] <= pair["ci95"][1]
    ours = record["estimates"][str(folder / "peer")]
    assert ours["num_missing"] == 0
    assert ours["model_minus_these"]["text"]["sdr_db"]["num_mixtures"] == NUM_MIXTURES
    lines = outcome.out.splitlines()
    assert next(line for line in lines if line.startswith("mixture"))
    assert f"judge: held-out classifier of {folder / 'model0'}" in lines
    assert "about" in outcome.err
    assert "s left" in outcome.err


def test_shares_on_several_devices_make_the_same_files(
    whole, folder, program, tmp_path
):
    for share in (1, 0):
        more = ("--shards=2", f"--shard={share}")
        outcome = program(
            "experiments.evaluate", *flags_of(folder, tmp_path / "s.json", *more)
        )
        assert outcome.code == 0, outcome.err
        assert f"share {share} of 2 is done" in outcome.out
        assert not (tmp_path / "s.json").exists()
    more = ("--shards=2", "--merge")
    outcome = program(
        "experiments.evaluate", *flags_of(folder, tmp_path / "s.json", *more)
    )
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "s.json").read_bytes() == whole[1]
    assert outcome.out == whole[0].out


def test_goes_on_after_a_kill(whole, folder, start, program, tmp_path):
    argv = flags_of(folder, tmp_path / "s.json")
    rows = tmp_path / "s.rows.jsonl"
    with start("experiments.evaluate", *argv) as process:
        deadline = time.monotonic() + 240
        while not (rows.exists() and rows.stat().st_size):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert not (tmp_path / "s.json").exists()
    assert whole[2].startswith(rows.read_bytes())
    outcome = program("experiments.evaluate", *argv)
    assert outcome.code == 0, outcome.err
    assert rows.read_bytes() == whole[2]
    assert (tmp_path / "s.json").read_bytes() == whole[1]
    # Stale rows are refused in one line, and stay.
    outcome = program("experiments.evaluate", *argv, "--baselines=")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert f"rows is {str(rows)!r}, expected rows of this evaluation" in outcome.err
    assert rows.read_bytes() == whole[2]


def test_a_peer_without_a_model(folder, program, tmp_path):
    shutil.copytree(folder / "peer", tmp_path / "peer")
    os.unlink(tmp_path / "peer" / "unseen-0003" / "0.wav")
    shutil.rmtree(tmp_path / "peer" / "unseen-0007")
    argv = [f"--manifest={folder / 'manifest_unseen.json'}", "--baselines="]
    argv += [f"--estimates={tmp_path / 'peer'}", f"--json={tmp_path / 's.json'}"]
    outcome = program("experiments.evaluate", *argv)
    assert outcome.code == 0, outcome.err
    missing = "3 estimates missing: unseen-0003/0, unseen-0007/0, unseen-0007/1"
    assert f"{tmp_path / 'peer'}: {missing}" in outcome.out
    record = json.loads((tmp_path / "s.json").read_text())
    peer = record["table"][1]
    assert (peer["n"], peer["num_mixtures"]) == (77, 39)
    assert record["estimates"][str(tmp_path / "peer")]["num_missing"] == 3
    assert record["evaluation"] == {}
    assert record["judge"] is None


@pytest.mark.parametrize(
    ("rate", "shape", "message"),
    [
        (8_000, (NUM_SAMPLES,), "with a rate of 8000 Hz, expected 11025 Hz"),
        (11_025, (500,), f"with 500 samples, expected {NUM_SAMPLES} as the mix"),
        (11_025, (NUM_SAMPLES, 2), "with 2 channels, expected mono"),
    ],
)
def test_estimates_that_do_not_fit(folder, program, tmp_path, rate, shape, message):
    path = tmp_path / "peer" / "unseen-0001" / "1.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.zeros(shape), rate)
    argv = [f"--manifest={folder / 'manifest_unseen.json'}"]
    outcome = program("experiments.evaluate", *argv, f"--estimates={tmp_path / 'peer'}")
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert f"estimates has {str(path)!r} {message}" in outcome.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--devices=5",), "devices is 5, expected 0 (all) to 4"),
        (("--shards=0",), "shards is 0, expected 1 or more"),
        (("--shards=2",), "shard is missing, expected 0 to 1, or merge"),
        (("--shards=2", "--shard=2"), "shard is 2, expected 0 to 1"),
        (("--shards=2", "--shard=1", "--merge"), "shard is 1, expected none with merg"),
        (("--shards=2", "--merge"), "s.rows.0-of-2.jsonl', expected a file"),
        (("--report=no/such.html",), "--report is 'no/such.html', expected a file"),
        (("--rows=no/rows.jsonl",), "rows is 'no/rows.jsonl', expected a file in an"),
    ],
)
def test_bad_flags(folder, program, tmp_path, more, message):
    argv = flags_of(folder, tmp_path / "s.json", *more)
    outcome = program("experiments.evaluate", *argv)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert message in outcome.err
    assert os.listdir(tmp_path) == []
