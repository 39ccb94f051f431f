"""Rows of metrics: whole lines, valid JSON, one a step."""

import builtins
import io
import json
import subprocess
import sys

import numpy as np
import pytest

from marssep_jax.metric_log import (
    BarProgress,
    LineProgress,
    MetricLog,
    make_progress,
)


def lines(folder):
    text = (folder / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def log(tmp_path):
    log = MetricLog(tmp_path, "toy", tensorboard=False)
    yield log
    log.close()


def test_a_row_is_a_line(tmp_path, log):
    log.write(3, 1.23456, {"toy/loss": np.float32(0.5), "toy/count": 2})
    wanted = {
        "step": 3,
        "stage": "toy",
        "wall_s": 1.235,
        "toy/loss": 0.5,
        "toy/count": 2,
    }
    assert lines(tmp_path) == log.rows() == [wanted]


def test_what_is_not_finite_is_null(tmp_path, log):
    log.write(1, 0.0, {"a/b": float("nan"), "a/c": np.inf})
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert lines(tmp_path)[0]["a/b"] is None
    assert lines(tmp_path)[0]["a/c"] is None


def test_truncate_forgets_later_rows_of_this_stage_only(tmp_path, log):
    other = MetricLog(tmp_path, "other", tensorboard=False)
    for step in (1, 2, 3):
        log.write(step, 0.0, {})
        other.write(step, 0.0, {})
    log.truncate(1)
    assert [row["step"] for row in log.rows()] == [1]
    assert [row["step"] for row in other.rows()] == [1, 2, 3]
    assert len(lines(tmp_path)) == 4


def test_a_line_that_was_cut_is_dropped(tmp_path, log):
    log.write(1, 0.0, {})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "sta')
    assert [row["step"] for row in log.rows()] == [1]
    log.truncate(5)
    log.write(2, 0.0, {})
    assert [row["step"] for row in lines(tmp_path)] == [1, 2]


FULL = """
import resource, signal, sys
from marssep_jax.metric_log import MetricLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = MetricLog(sys.argv[1], "toy", tensorboard=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
for step in range(9):
    try:
        log.write(step, 0.0, {"toy/loss": 0.123456789})
    except OSError as error:
        sys.exit(f"stopped: {error}")
"""


def test_no_half_line_where_there_is_no_room(tmp_path):
    """A size limit cuts a write in two just as a full disk does."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"stopped: [Errno 28] cannot write {tmp_path}" in done.stderr
    assert [row["step"] for row in lines(tmp_path)] == [0, 1]


def test_tensorboard_events(tmp_path):
    pytest.importorskip("tensorboardX")
    log = MetricLog(tmp_path, "toy")
    log.write(1, 0.0, {"toy/loss": 0.25, "toy/bad": float("nan")})
    log.truncate(1)
    log.write(2, 0.0, {"toy/loss": 0.125})
    log.close()
    files = list((tmp_path / "tensorboard" / "toy").iterdir())
    raw = b"".join(path.read_bytes() for path in files)
    assert raw.count(b"toy/loss") == 2
    assert b"toy/bad" not in raw


def test_works_without_tensorboardx(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "tensorboardX":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    MetricLog(tmp_path, "toy").write(1, 0.0, {"a/loss": 1.0})
    assert len(lines(tmp_path)) == 1


ROW = {"step": 2, "wall_s": 61.2, "toy/loss": 0.25, "eval/si_sdri_db": 3.5, "x/y": 1}


def test_plain_lines_elsewhere():
    stream = io.StringIO()
    progress = make_progress("toy", stream)
    assert isinstance(progress, LineProgress)
    progress(1, 4, {})
    progress(2, 4, ROW)
    progress.close()
    assert stream.getvalue() == "toy 2/4  61 s  eval/si_sdri_db 3.5  toy/loss 0.25\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal():
    stream = Terminal()
    progress = make_progress("toy", stream)
    assert isinstance(progress, BarProgress)
    progress(1, 4, {})
    progress(4, 4, ROW)
    progress.close()
    assert "4/4" in stream.getvalue()
    assert "toy/loss 0.25" in stream.getvalue()
