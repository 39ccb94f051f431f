"""``marssep serve`` as a program: bad options, and the way it ends."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("argv", "wrong"),
    [
        (["--port", "70000"], "--port is 70000, expected 0 to 65535"),
        (["--port", "x"], "--port: invalid int value: 'x'"),
        (["--max-minutes", "nan"], "--max-minutes is nan, expected a number above 0"),
        (["--max-requests", "0"], "--max-requests is 0, expected a number above 0"),
        (["--max-megabytes", "-1"], "--max-megabytes is -1.0, expected"),
        (["--host", "192.0.2.1", "--port", "0"], "--host is '192.0.2.1'"),
        (["--checkpoint", "nowhere"], "--checkpoint is 'nowhere', expected the folder"),
        (["page"], "page: unknown option"),
    ],
)
def test_bad_options_are_one_line(marssep, checkpoint, argv, wrong):
    if "--checkpoint" in argv:
        argv = [*argv, "--port", "0"]
    else:
        argv = [*argv, "--checkpoint", checkpoint]
    outcome = marssep("serve", *argv)
    assert outcome.code == 1
    assert outcome.err.startswith("marssep serve: ")
    assert wrong in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_missing_package_is_named_with_its_remedy(marssep, checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    outcome = marssep("serve", "--checkpoint", checkpoint)
    assert outcome.code == 1
    assert "pip install 'marssep_jax[serve]'" in outcome.err
    assert "'uvicorn'" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_it_serves_until_it_is_told_to_stop(checkpoint, tmp_path, number, code):
    command = [sys.executable, "-m", "marssep_jax.cli", "serve", "--port", "0"]
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [*command, "--checkpoint", checkpoint],
        env=os.environ
        | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            line = server.stdout.readline()
            assert line.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(line.split()[0]) as response:
                assert b"<title>marssep</title>" in response.read()
            assert len(list(tmp_path.glob("marssep-serve-*"))) == 1
        finally:
            server.send_signal(number)
        out, err = server.communicate(timeout=60)
    assert server.returncode == code
    assert err == ("marssep serve: interrupted\n" if code == 130 else "")
    assert out == ""
    assert list(tmp_path.iterdir()) == []
