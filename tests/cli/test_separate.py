"""``marssep separate`` and ``marssep inspect`` on good input."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image


@pytest.fixture
def separate(marssep, checkpoint):
    """Return a function that runs the command with the tiny model."""

    def run(*argv):
        outcome = marssep(
            "separate", *argv, "--output", "out", "--checkpoint", checkpoint
        )
        assert outcome.err == ""
        assert outcome.code == 0
        return outcome

    return run


@pytest.mark.parametrize(
    ("name", "rate", "channels", "settings", "subtype"),
    [
        ("a.wav", 16_000, 1, {}, "PCM_16"),
        ("a.wav", 44_100, 2, {"subtype": "PCM_24"}, "PCM_24"),
        ("a.wav", 96_000, 1, {"subtype": "FLOAT"}, "FLOAT"),
        ("a.wav", 8_000, 6, {"subtype": "PCM_16"}, "PCM_16"),
        ("a.wav", 11_025, 1, {"subtype": "PCM_U8"}, "PCM_16"),
        ("a.flac", 48_000, 2, {"subtype": "PCM_24"}, "PCM_24"),
        ("a.mp3", 44_100, 2, {}, "PCM_16"),
        ("a.ogg", 22_050, 1, {}, "PCM_16"),
    ],
)
def test_rate_channels_and_length_stay(
    separate, recording, tmp_path, name, rate, channels, settings, subtype
):
    source = recording(name, rate, channels, num_samples=rate // 2 + 3, **settings)
    separate(source, "--text", "violin", "--residual")
    mixture, _ = soundfile.read(source, always_2d=True)
    total = np.zeros_like(mixture)
    for kind in ("target", "residual"):
        path = tmp_path / "out" / f"a_{kind}.wav"
        info = soundfile.info(path)
        assert (info.samplerate, info.channels) == (rate, channels)
        assert info.subtype == subtype
        part, _ = soundfile.read(path, always_2d=True)
        assert 0.02 < part.std() / mixture.std() < 0.98
        total += part
    assert total.shape == mixture.shape
    # Two files rounded to 16 bit: half a step each, 3.1e-5 together.
    np.testing.assert_allclose(total, mixture, atol=1e-4)


def test_one_sample_is_enough(separate, recording, tmp_path):
    separate(recording("a.wav", 44_100, num_samples=1), "--text", "violin")
    assert soundfile.info(tmp_path / "out" / "a_target.wav").frames == 1


def test_silence_is_separated_into_silence(separate, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((5_000, 2)), 44_100)
    outcome = separate("a.wav", "--text", "violin")
    assert "silent" in outcome.out
    samples, _ = soundfile.read(tmp_path / "out" / "a_target.wav")
    assert samples.shape == (5_000, 2)
    assert not samples.any()


def test_folder_keeps_its_structure_and_flac_can_be_asked_for(
    separate, recording, tmp_path
):
    recording("in/a.wav")
    recording("in/deep/er/b.flac")
    recording("in/.hidden.wav")
    recording("c.wav")
    (tmp_path / "in" / "notes.txt").write_text("no recording")
    separate("in", "c.wav", "--text", "violin", "--format", "flac")
    written = sorted(
        str(path.relative_to(tmp_path / "out"))
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    )
    assert written == ["a_target.flac", "c_target.flac", "deep/er/b_target.flac"]


def test_output_inside_the_input_folder_is_not_an_input(separate, recording, tmp_path):
    recording("a.wav")
    for _ in range(2):
        separate(".", "--text", "violin", "--overwrite")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_target.wav"]


def test_existing_outputs_are_skipped_unless_overwritten(separate, recording, tmp_path):
    source, target = recording("a.wav"), tmp_path / "out" / "a_target.wav"
    separate(source, "--text", "violin")
    first = target.read_bytes()
    again = separate(source, "--text", "flute", "--json", "r.json")
    assert "skipped" in again.out
    assert target.read_bytes() == first
    assert json.loads((tmp_path / "r.json").read_text())["files"][0]["status"] == (
        "skipped"
    )
    separate(source, "--text", "flute", "--overwrite")
    assert target.read_bytes() != first


def test_queries_combine_in_the_order_typed(separate, recording, tmp_path):
    source, clip = recording("a.wav"), recording("clip.ogg", 44_100, 2)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(pixels, "RGBA").save(tmp_path / "p.png")
    separate(
        source,
        "--audio",
        clip,
        "--text",
        "harp",
        "--image",
        "p.png",
        "--text",
        "tuba",
        "--weights",
        "1,2,3,4",
        "--remove-text",
        "flute",
        "--remove-audio",
        clip,
        "--remove-image",
        "p.png",
        "--json",
        "r.json",
    )
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["queries"] == [
        ["audio", str(clip)],
        ["text", "harp"],
        ["image", "p.png"],
        ["text", "tuba"],
    ]
    assert [modality for modality, _ in report["remove"]] == ["text", "audio", "image"]
    (row,) = report["files"]
    assert row["status"] == "done"
    assert (row["sample_rate_hz"], row["channels"]) == (16_000, 1)
    assert (row["num_samples"], row["clipped_samples"]) == (9_000, 0)
    assert row["target"] == "out/a_target.wav"


def test_weights_matter(separate, recording, tmp_path):
    source = recording("a.wav", subtype="FLOAT")
    targets = []
    for weights in ("1,9", "9,1", "90,10"):
        separate(
            source,
            "--text",
            "violin",
            "--text",
            "drum kit",
            "--weights",
            weights,
            "--overwrite",
        )
        targets.append(soundfile.read(tmp_path / "out" / "a_target.wav")[0])
    assert np.abs(targets[0] - targets[1]).max() > 1e-5
    np.testing.assert_allclose(targets[1], targets[2], atol=1e-6)


def test_other_masks_can_be_asked_for(separate, recording, tmp_path):
    source = recording("a.wav")
    found = {}
    for name, options in {
        "mode": [],
        "mean": ["--mask", "mean"],
        "sample": ["--mask", "sample", "--seed", "5"],
        "again": ["--mask", "sample", "--seed", "5"],
        "other": ["--mask", "sample", "--seed", "6"],
    }.items():
        separate(
            source, "--text", "violin", "--overwrite", *options, "--json", "r.json"
        )
        found[name], _ = soundfile.read(tmp_path / "out" / "a_target.wav")
        report = json.loads((tmp_path / "r.json").read_text())
        assert report["mask"] == (options[1] if options else "mode")
    np.testing.assert_array_equal(found["sample"], found["again"])
    for first, second in (("mode", "mean"), ("mode", "sample"), ("sample", "other")):
        assert np.abs(found[first] - found[second]).max() > 1e-3


def test_channels_can_have_masks_of_their_own(separate, tmp_path):
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, (9_000, 2))
    soundfile.write(tmp_path / "a.wav", sound, 16_000)
    soundfile.write(tmp_path / "left.wav", sound[:, 0], 16_000)
    options = ("--text", "violin", "--overwrite")
    found = {}
    for name, more in (("a", []), ("a", ["--per-channel"]), ("left", [])):
        separate(f"{name}.wav", *options, *more)
        samples, _ = soundfile.read(tmp_path / "out" / f"{name}_target.wav")
        found[name, *more] = samples
    apart = found["a", "--per-channel"]
    np.testing.assert_array_equal(apart[:, 0], found["left",])
    assert np.abs(apart - found["a",]).max() > 1e-3


def test_removal_alone_is_the_residual_of_the_query(separate, recording, tmp_path):
    source = recording("a.wav", subtype="FLOAT")
    separate(source, "--text", "violin", "--residual")
    wanted, _ = soundfile.read(tmp_path / "out" / "a_residual.wav")
    separate(source, "--remove-text", "violin", "--overwrite")
    rest, _ = soundfile.read(tmp_path / "out" / "a_target.wav")
    # FFTs in float32.
    np.testing.assert_allclose(rest, wanted, atol=1e-6)


def test_file_name_that_is_no_text(checkpoint, recording, tmp_path):
    source = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    os.replace(recording("a.wav"), source)
    command = [sys.executable, "-m", "marssep_jax.cli", "separate", source]
    options = ["--text", "violin", "--output", "out", "--checkpoint", checkpoint]
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*command, *options, "--json", "r.json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    (row,) = json.loads((tmp_path / "r.json").read_text())["files"]
    assert os.fsencode(row["input"]) == source
    assert os.listdir(os.fsencode(tmp_path) + b"/out") == [b"caf\xe9_target.wav"]


def test_standard_input(separate, recording, tmp_path, monkeypatch):
    data = recording("a.flac", 22_050, 2).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    separate("-", "--text", "violin")
    info = soundfile.info(tmp_path / "out" / "stdin_target.wav")
    assert (info.samplerate, info.channels, info.frames) == (22_050, 2, 9_000)


def test_inspect_says_what_the_checkpoint_is(marssep, checkpoint, tmp_path):
    outcome = marssep("inspect", checkpoint, "--json", "i.json")
    assert (outcome.code, outcome.err) == (0, "")
    report = json.loads((tmp_path / "i.json").read_text())
    assert (report["stage"], report["step"]) == ("untrained", 0)
    assert report["licence"] == "CC0-1.0"
    assert report["parameters"]["separator_params"] > 1_000
    assert report["size_bytes"] > 4 * sum(report["parameters"].values())
    assert report["config"]["frontend"]["num_samples"] == 4_096
    for shown in ("CC0-1.0", "frontend.sample_rate_hz", "16000", "violin, flute"):
        assert shown in outcome.out


@pytest.mark.parametrize(
    "command", [[], ["separate"], ["serve"], ["inspect"], ["export"]]
)
def test_help_shows_an_example(marssep, command):
    outcome = marssep(*command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert "example:\n  marssep" in outcome.out


def test_version(marssep):
    assert marssep("--version").out.startswith("marssep 0.")
