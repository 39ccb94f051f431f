"""Bad input to ``marssep``: one line, exit 1 (130 on Ctrl-C), nothing half-written."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from marssep_jax import file_jobs, file_runs
from tests.support.disks import mounted

OK = ("--text", "violin")


def assert_one_line(outcome, *parts):
    assert outcome.code == 1
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    for part in parts:
        assert part in lines[0]


def files_in(folder):
    return sorted(str(p) for p in Path(folder).rglob("*") if p.is_file())


@pytest.fixture
def refused(marssep, checkpoint, tmp_path):
    """Return a function that runs the command and checks how it was refused."""

    def run(argv, *parts, checkpoint=checkpoint):
        before = files_in(tmp_path)
        outcome = marssep(
            "separate", *argv, "--output", "out", "--checkpoint", checkpoint
        )
        assert_one_line(outcome, "marssep separate: ", *parts)
        assert files_in(tmp_path) == before
        return outcome

    return run


def test_missing_file(refused):
    refused(["no.wav", *OK], "INPUT is 'no.wav', expected an existing file or folder")


def test_empty_folder(refused, tmp_path):
    (tmp_path / "in").mkdir()
    refused(["in", *OK], "INPUT is 'in', expected a folder that holds recordings")


@pytest.mark.parametrize("content", [b"", b"I am text.\n" * 99, b"RIFF\0\0\0\0WAVE"])
def test_not_a_recording(refused, tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    refused(["a.wav", *OK], "INPUT is 'a.wav', expected a readable wav, flac, ogg or m")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_late_in_the_file(refused, tmp_path, bad):
    samples = np.full((300_000, 2), 0.1)
    samples[290_000, 1] = bad  # after the first outputs have been written
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    refused(
        ["a.wav", *OK, "--residual"],
        "INPUT is 'a.wav', expected finite samples, but sample 290000 of channel 1 is",
    )


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 9), (768_000, 1)])
def test_flac_that_cannot_be(refused, recording, rate, channels):
    recording("a.wav", rate, channels)
    expected = f"expected wav for {channels} channels at {rate} Hz: flac takes 8"
    refused(
        ["a.wav", *OK, "--format", "flac"], "output is 'out/a_target.flac'", expected
    )


def test_no_samples(refused, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 1)), 16_000)
    refused(["a.wav", *OK], "INPUT is 'a.wav', expected at least one sample")


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ([], "query is missing, expected at least one of --text, --audio, --image"),
        (["--text", ""], "--text is '', expected some words"),
        (["--text", " \t"], "--text is ' \\t', expected some words"),
        (["--remove-text", ""], "--remove-text is '', expected some words"),
        (["--text", "caf\udce9"], "--text is 'caf\\udce9', expected some words"),
        (["--video", "a.mp4"], "--video: unknown option, expected one of --help, --"),
        (["--text"], "--text: expected one argument"),
        (["--audio", "no.wav"], "--audio is 'no.wav', expected an existing file"),
        (["--audio", "."], "--audio is '.', expected a file, not a folder"),
        (["--audio", "n.txt"], "--audio is 'n.txt', expected a readable wav"),
        (["--audio", "zero.wav"], "--audio is silent, expected a recording with sound"),
        (["--remove-audio", "n.txt"], "--remove-audio is 'n.txt', expected a readable"),
        (["--image", "no.png"], "--image is 'no.png', expected an existing file"),
        (["--image", "."], "--image is '.', expected a file, not a folder"),
        (["--image", "n.txt"], "--image is 'n.txt', expected a readable picture"),
        (["--image", "a.wav"], "--image is 'a.wav', expected a readable picture"),
        (["--remove-image", "n.txt"], "--remove-image is 'n.txt', expected a readable"),
        ([*OK, "--weights", "x"], "--weights: is 'x', expected numbers above 0"),
        ([*OK, "--weights", "0"], "--weights: is '0', expected numbers above 0"),
        ([*OK, "--weights", "1,2"], "--weights has 2 numbers, expected one for each"),
        ([*OK, "--format", "mp3"], "--format: invalid choice: 'mp3' (choose from"),
        ([*OK, "--json", "."], "--json is '.', expected a file in an existing folder"),
        ([*OK, "--json", "no/a.json"], "--json is 'no/a.json', expected a file in"),
    ],
)
def test_bad_arguments(refused, recording, tmp_path, query, parts):
    recording("a.wav")
    (tmp_path / "n.txt").write_text("not what you think")
    soundfile.write(tmp_path / "zero.wav", np.zeros(999), 16_000)
    refused(["a.wav", *query], parts)


def test_truncated_picture(refused, recording, tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    recording("a.wav")
    refused(["a.wav", "--image", "a.png"], "--image is 'a.png', expected a readable")


def test_wrong_checkpoint(refused, recording, tmp_path):
    recording("a.wav")
    (tmp_path / "empty").mkdir()
    for wrong in ("no", "empty", "a.wav"):
        refused(
            ["a.wav", *OK], f"--checkpoint is {wrong!r}, expected", checkpoint=wrong
        )


def test_damaged_checkpoint(refused, recording, checkpoint, tmp_path):
    recording("a.wav")
    for name in sorted(os.listdir(checkpoint)):
        damaged = tmp_path / f"damaged-{name}"
        shutil.copytree(checkpoint, damaged)
        (damaged / name).write_bytes(b"\0" * 100)
        expected = f"--checkpoint is '{damaged}', expected the folder of a trained"
        refused(["a.wav", *OK], expected, checkpoint=damaged)


def test_output_that_is_a_file(marssep, recording, checkpoint):
    recording("a.wav")
    outcome = marssep(
        "separate", "a.wav", *OK, "--output", "a.wav", "--checkpoint", checkpoint
    )
    assert_one_line(outcome, "--output is 'a.wav', expected a folder")


def test_missing_and_unknown_commands(marssep):
    assert_one_line(
        marssep(),
        "COMMAND is missing, expected one of separate, serve, inspect, export",
    )
    assert_one_line(
        marssep("play"),
        "COMMAND is 'play', expected one of separate, serve, inspect, export",
    )
    assert_one_line(marssep("separate", "a.wav"), "arguments are required: --output")
    assert_one_line(marssep("separate", "--output", "o"), "are required: INPUT")
    assert_one_line(marssep("inspect"), "arguments are required: CHECKPOINT")
    assert_one_line(marssep("inspect", "no"), "CHECKPOINT is 'no', expected the folder")


@pytest.fixture
def partly(marssep, checkpoint):
    """Return a function that runs what fails for some inputs; returns the report."""

    def run(*argv, err):
        options = (*OK, "--output", "out", "--checkpoint", checkpoint)
        outcome = marssep("separate", *argv, *options, "--json", "r.json")
        assert outcome.code == 1
        lines = outcome.err.splitlines()
        assert len(lines) == len(err)
        for line, part in zip(lines, err, strict=True):
            assert line.startswith(f"marssep separate: {part}")
        rows = json.loads(Path("r.json").read_text())["files"]
        failed = [row["error"] for row in rows if row["status"] == "failed"]
        assert [f"marssep separate: {error}" for error in failed] == lines
        counts = Counter(row["status"] for row in rows)
        said = outcome.out.splitlines()[-1].split(", ")
        words = {"separated": "done", "skipped": "skipped", "failed": "failed"}
        assert {words[part.split()[1]]: int(part.split()[0]) for part in said} == counts
        return rows

    return run


def test_inputs_that_would_write_one_file(partly, recording):
    recording("x/a.wav")
    recording("y/a.flac")
    recording("y/b.wav")
    error = "INPUT is 'y/a.flac', expected another name than that of 'x/a.wav'"
    rows = partly("x", "y", err=[error])
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert [Path(p).name for p in files_in("out")] == ["a_target.wav", "b_target.wav"]
    # The first has its output by now, and still it is not the second's.
    rows = partly("x", "y", err=[error])
    assert [row["status"] for row in rows] == ["skipped", "failed", "skipped"]


def test_missing_inputs_do_not_stop_the_others(partly, recording, tmp_path):
    recording("a.wav")
    (tmp_path / "empty").mkdir()
    rows = partly(
        *("no.wav", "empty", "a.wav"),
        err=["INPUT is 'no.wav', expected an ex", "INPUT is 'empty', expected a folde"],
    )
    assert [row["input"] for row in rows] == ["no.wav", "empty", "a.wav"]
    assert [Path(p).name for p in files_in("out")] == ["a_target.wav"]


def test_what_nobody_expected_does_not_stop_the_others(partly, recording, monkeypatch):
    recording("a.wav")
    recording("b.wav")

    def run_job(separator, job, *args, **options):
        if job.source == "a.wav":
            raise MemoryError("too much")
        return file_jobs.run_job(separator, job, *args, **options)

    monkeypatch.setattr(file_runs, "run_job", run_job)
    error = "INPUT is 'a.wav', which ended in MemoryError: too much (MARSSEP_DEBUG=1"
    rows = partly("a.wav", "b.wav", err=[error])
    assert [row["status"] for row in rows] == ["failed", "done"]


def test_output_that_would_replace_an_input(marssep, recording, checkpoint, tmp_path):
    recording("a.wav")
    before = recording("a_target.wav").read_bytes()
    outcome = marssep(
        "separate",
        "a.wav",
        "a_target.wav",
        *OK,
        "--output",
        ".",
        "--overwrite",
        "--checkpoint",
        checkpoint,
    )
    assert_one_line(outcome, "--output is '.', expected a folder where 'a_target.wav'")
    assert (tmp_path / "a_target.wav").read_bytes() == before


def test_one_bad_file_does_not_stop_the_others(
    marssep, recording, checkpoint, tmp_path
):
    recording("in/a.wav")
    recording("in/z.wav")
    (tmp_path / "in" / "m.wav").write_text("text")
    outcome = marssep(
        "separate",
        "in",
        *OK,
        "--output",
        "out",
        "--checkpoint",
        checkpoint,
        "--json",
        "r.json",
    )
    assert_one_line(outcome, "INPUT is 'in/m.wav', expected a readable wav")
    assert [Path(p).name for p in files_in("out")] == ["a_target.wav", "z_target.wav"]
    assert '"status": "failed"' in (tmp_path / "r.json").read_text()


def test_file_size_limit(refused, recording):
    """A disk quota: the write fails half-way, with EFBIG."""
    recording("a.wav", num_samples=200_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        refused(
            ["a.wav", *OK, "--residual"],
            "output is 'out/a_",
            "expected a place with room to write",
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 100 kB, where that is allowed."""
    with mounted(tmp_path / "disk", "100k") as disk:
        yield disk


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_full_disk(marssep, recording, checkpoint, small_disk, form):
    recording("a.wav", num_samples=200_000)
    outcome = marssep(
        "separate",
        "a.wav",
        *OK,
        "--output",
        small_disk,
        "--checkpoint",
        checkpoint,
        "--format",
        form,
    )
    assert_one_line(outcome, "output is '", "expected a place with room to write")
    assert files_in(small_disk) == []


def test_disk_full_at_the_last_byte(marssep, recording, checkpoint, small_disk):
    """What fits leaves as a whole file; one page more leaves nothing."""
    recording("fits.wav", num_samples=40_000)
    recording("not.wav", num_samples=60_000)
    for name, code in (("fits", 0), ("not", 1)):
        outcome = marssep(
            "separate",
            f"{name}.wav",
            *OK,
            "--output",
            small_disk,
            "--checkpoint",
            checkpoint,
        )
        assert outcome.code == code
    assert [Path(p).name for p in files_in(small_disk)] == ["fits_target.wav"]


def test_report_on_a_full_disk(marssep, recording, checkpoint, small_disk):
    recording("a.wav")
    (small_disk / "filler").write_bytes(b"\0" * (small_disk.stat().st_blksize * 25))
    outcome = marssep(
        "separate",
        "a.wav",
        *OK,
        "--output",
        "out",
        "--checkpoint",
        checkpoint,
        "--json",
        small_disk / "r.json",
    )
    assert_one_line(outcome, "--json is '", "expected a place with room to write")
    assert [Path(p).name for p in files_in(small_disk)] == ["filler"]


def start(argv, cwd):
    command = [sys.executable, "-m", "marssep_jax.cli", *map(str, argv)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    root = str(Path(__file__).parents[2])
    paths = [root, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (signal.SIGINT, 130, "marssep separate: interrupted\n"),
        (signal.SIGTERM, 143, ""),
    ],
)
def test_stopped_while_writing(checkpoint, recording, tmp_path, number, code, message):
    """The real program, stopped between two windows of an hour of silence."""
    recording("a.wav")
    soundfile.write(tmp_path / "b.flac", np.zeros(16_000 * 3_600, np.int16), 16_000)
    argv = ["separate", "a.wav", "b.flac", *OK, "--output", "out"]
    options = ["--checkpoint", checkpoint, "--json", "r.json"]
    with start([*argv, *options, "--residual"], tmp_path) as program:
        deadline = time.monotonic() + 120
        while len(files_in(tmp_path / "out")) < 4 and time.monotonic() < deadline:
            assert program.poll() is None, program.stderr.read()
            time.sleep(0.05)
        program.send_signal(number)
        out, err = program.communicate(timeout=60)
    assert program.returncode == code
    assert err == message
    assert out.count("\n") == 1
    done = [Path(p).name for p in files_in(tmp_path / "out")]
    assert done == ["a_residual.wav", "a_target.wav"]
    rows = json.loads((tmp_path / "r.json").read_text())["files"]
    assert [(row["input"], row["status"]) for row in rows] == [("a.wav", "done")]


def test_the_program_itself_refuses_in_one_line(checkpoint, tmp_path):
    (tmp_path / "a.wav").write_text("text")
    argv = ["separate", "a.wav", *OK, "--output", "out", "--checkpoint", checkpoint]
    with start(argv, tmp_path) as program:
        out, err = program.communicate(timeout=120)
    assert program.returncode == 1
    assert out == ""
    assert err.startswith("marssep separate: INPUT is 'a.wav', expected a readable")
    assert err.count("\n") == 1


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from marssep_jax import cli; cli.main(['separate', '--help']);"
        "heavy = {'jax', 'numpy', 'soundfile', 'tensorflow', 'torch'};"
        "sys.exit(len(heavy & set(sys.modules)))"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    "words", [["inspect", "CHECKPOINT"], ["--help"], ["separate", "--help"]]
)
def test_a_reader_that_has_gone_is_no_error(checkpoint, words):
    reader, writer = os.pipe()
    os.close(reader)
    words = [checkpoint if word == "CHECKPOINT" else word for word in words]
    command = [sys.executable, "-m", "marssep_jax.cli", *words]
    # What waits in a buffer meets the pipe last.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with os.fdopen(writer, "w") as out:
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, text=True, env=env
        )
    assert (done.returncode, done.stderr) == (0, "")
