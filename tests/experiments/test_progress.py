"""What long work says of itself where there is no terminal."""

import re

import pytest

from experiments import progress


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose only item is the time."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_says_how_long_the_rest_takes(clock, capsys):
    hear = progress.progress_of("work", 100, parts=2)
    # The first ten take a minute, programs being compiled; then one a second.
    for done in range(10, 101, 10):
        clock[0] = 50.0 + done
        hear(done)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == [
        "10/100",
        "20/100",
        "50/100",
        "100/100",
    ]
    left = [re.search(r"about (\d+) s left", line) for line in lines]
    assert [found and int(found[1]) for found in left] == [None, 80, 50, None]


def test_counts_on_from_what_was_done_before(clock, capsys):
    hear = progress.progress_of("work", 100, parts=2, start=60)
    for done in (70, 80, 90, 100):
        clock[0] += 5.0
        hear(done)
    lines = capsys.readouterr().err.splitlines()
    assert "70/100  5 s" in lines[0]
    assert "80/100  10 s  about 10 s left" in lines[1]
    assert lines[-1].startswith("work 100/100")
