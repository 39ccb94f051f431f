"""What the program shows while it works, on a terminal and elsewhere."""

import os
import pty
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOW = """
import sys, time
from marssep_jax.terminal import Progress
bar = Progress("a/long/folder/" * 9 + "song.wav", "[2/9] ")
for share in (0.25, 0.5):
    bar.show(share)
    time.sleep(0.2)
bar.clear()
print("separated", file=sys.stderr)
"""


def said(stderr):
    done = subprocess.run([sys.executable, "-c", SHOW], cwd=ROOT, stderr=stderr)
    assert done.returncode == 0


def test_a_terminal_gets_a_bar_that_is_wiped_away():
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as shown:
        said(theirs)
        os.close(theirs)
        text = shown.read(10_000).decode()
    assert "[2/9] .../a/long/folder" in text
    assert "song.wav  50%|" in text
    *_, wiped, last = text.rstrip().split("\r")
    assert wiped.strip() == ""
    assert last.strip() == "separated"
    assert max(map(len, text.split("\r"))) <= 80


def test_a_file_gets_nothing(tmp_path):
    with open(tmp_path / "log", "wb") as log:
        said(log)
    assert (tmp_path / "log").read_text() == "separated\n"
