"""Rows on disk: what a kill, a full disk and stale data leave, and who may read it."""

import dataclasses
import platform
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.row_cache import Header, RowCache
from tests.support.disks import use_up

TABLES = {"text": (5, 3), "none": (0, 3), "clips": (18, 2)}
HEADER = Header("features", "abc", "d1", TABLES, shard_rows=4)


def value(name, rows):
    """Return rows that tell their table and their number."""
    number = np.arange(rows.start, rows.stop)[:, None]
    return (100 * list(TABLES).index(name) + number) * np.ones(TABLES[name][1])


def whole(name):
    return value(name, slice(0, TABLES[name][0]))


@pytest.fixture
def cache(tmp_path):
    return RowCache(tmp_path / "rows", HEADER)


def fill(cache, shard=0, shards=1, into=None):
    """Fill a cache and return how many rows that took."""
    counts = []

    def compute(name, rows):
        counts.append(rows.stop - rows.start)
        return value(name, rows)

    for name in TABLES:
        cache.fill(name, lambda rows, name=name: compute(name, rows), shard, shards)
    return sum(counts)


def assert_whole(cache):
    for name, shape in TABLES.items():
        found = cache.read(name)
        assert (found.shape, found.dtype) == (shape, np.float32)
        np.testing.assert_array_equal(found, whole(name))


def test_rows_come_back(cache):
    assert cache.count_missing() == 23
    assert not cache.folder.exists()
    assert fill(cache) == 23
    assert_whole(RowCache(cache.folder, dataclasses.replace(HEADER)))
    assert fill(cache) == 0
    assert len(list(cache.folder.iterdir())) == 1 + 2 + 5


def test_one_shard_stays_on_disk(tmp_path):
    header = dataclasses.replace(HEADER, shard_rows=32)
    cache = RowCache(tmp_path, header)
    fill(cache)
    assert_whole(cache)
    assert isinstance(cache.read("clips").base, np.memmap)


def test_only_what_is_missing_is_computed(cache):
    fill(cache)
    next(cache.folder.glob("clips_00001_*")).unlink()
    assert cache.missing("clips") == [slice(4, 8)]
    with pytest.raises(ValueError, match=r"^features are '.*rows', expected 5 shards"):
        cache.read("clips")
    assert fill(cache) == 4
    assert_whole(cache)


@pytest.mark.parametrize("left", [0, 10, 140, -1])
def test_a_truncated_shard(cache, left):
    fill(cache)
    (path,) = cache.folder.glob("clips_00004_*")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"of clips \(1 are missing or damaged\)"):
        cache.read("clips")
    assert fill(cache) == 2
    assert_whole(cache)


@pytest.mark.parametrize("other", [np.zeros((4, 3), np.float32), np.zeros((4, 2))])
def test_a_shard_of_another_shape_or_type(cache, other):
    fill(cache)
    np.save(next(cache.folder.glob("clips_00000_*")), other)
    assert cache.missing("clips") == [slice(0, 4)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encoder": "xyz"}, "expected those of encoder xyz, not of abc (stale: "),
        ({"data": "d2"}, "expected those of data d2, not of d1 (stale: delete the"),
        ({"shard_rows": 8}, "expected those of shard_rows 8, not of 4 (stale: "),
        ({"dtype": "float16"}, "expected those of dtype float16, not of float32"),
    ],
)
def test_rows_of_something_else_are_refused(cache, change, told):
    fill(cache)
    before = sorted(cache.folder.iterdir())
    other = RowCache(cache.folder, dataclasses.replace(HEADER, **change))
    uses = (other.count_missing, lambda: fill(other), lambda: other.read("text"))
    for use in uses:
        with pytest.raises(ValueError, match=r"^features are '") as caught:
            use()
        assert told in str(caught.value)
    assert sorted(cache.folder.iterdir()) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "marssep-rows"}'])
def test_a_damaged_header(cache, text):
    fill(cache)
    (cache.folder / "header.json").write_text(text)
    with pytest.raises(ValueError, match="delete the folder"):
        cache.read("text")


def test_rows_that_came_late_for_another_header_are_not_read(cache):
    """Somebody deletes a stale folder while a process still writes into it."""
    other = RowCache(cache.folder, dataclasses.replace(HEADER, data="d2"))
    fill(other)
    (cache.folder / "header.json").unlink()
    assert cache.count_missing() == 23
    assert fill(cache) == 23
    assert_whole(cache)


def test_shares_are_disjoint_and_together_everything(cache):
    done = [fill(cache, shard, 3) for shard in range(3)]
    assert sum(done) == 23
    assert min(done) > 0
    assert_whole(cache)


def test_rows_of_another_shape_are_not_written(cache):
    message = r"clips has rows of shape \(4, 3\), expected \(4, 2\)"
    with pytest.raises(ValueError, match=message):
        cache.fill("clips", lambda rows: np.zeros((4, 3)))
    assert cache.count_missing() == 23


def test_an_unknown_table(cache):
    with pytest.raises(ValueError, match="table is 'smell', expected one of text, no"):
        cache.missing("smell")


def test_a_failure_leaves_what_was_done(cache):
    def compute(rows):
        if rows.start == 8:
            raise KeyboardInterrupt
        return value("clips", rows)

    with pytest.raises(KeyboardInterrupt):
        cache.fill("clips", compute)
    assert [rows.start for rows in cache.missing("clips")] == [8, 12, 16]
    assert not list(cache.folder.glob(".*"))


def test_what_killed_processes_left_is_removed(cache):
    fill(cache)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ours = f".clips_00000_ab.npy.{platform.node()}.{gone.pid}.part"
    theirs = ".clips_00000_ab.npy.elsewhere.1.part"  # another machine's, maybe at work
    for name in (ours, theirs):
        (cache.folder / name).write_bytes(b"half")
    fill(cache)
    assert [path.name for path in cache.folder.glob(".*")] == [theirs]


CHILD = """
import sys, time
from experiments.row_cache import RowCache
from tests.experiments.test_row_cache import HEADER, value
def compute(rows):
    time.sleep(0.2)
    return value("clips", rows)
RowCache(sys.argv[1], HEADER).fill("clips", compute, int(sys.argv[2]), int(sys.argv[3]))
"""


def child(cache, shard=0, shards=1):
    argv = [sys.executable, "-c", CHILD, str(cache.folder), str(shard), str(shards)]
    return subprocess.Popen(argv)


def wait_for(cache, count):
    deadline = time.monotonic() + 120
    while len(list(cache.folder.glob("clips_*"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_in_the_middle(cache):
    with child(cache) as process:
        wait_for(cache, 2)
        process.send_signal(signal.SIGKILL)
    there = len(list(cache.folder.glob("clips_*")))
    assert 2 <= there < 5
    assert fill(cache) == 23 - 4 * there
    assert_whole(cache)


def test_two_processes_share_the_work(cache):
    with child(cache, 0, 2) as first, child(cache, 1, 2) as second:
        pass
    assert (first.returncode, second.returncode) == (0, 0)
    assert fill(cache) == 5  # the other table
    assert_whole(cache)


def test_two_processes_with_the_same_share(cache):
    """It is done twice, and nothing is spoilt."""
    with child(cache) as first, child(cache) as second:
        pass
    assert (first.returncode, second.returncode) == (0, 0)
    fill(cache)
    assert_whole(cache)


def test_full_disk(small_disk):
    tables = {"clips": (1_000, 64)}
    header = dataclasses.replace(HEADER, tables=tables, shard_rows=100)
    cache, filler = RowCache(small_disk / "rows", header), small_disk / "filler"

    def compute(rows):
        if rows.start == 500 and not filler.exists():
            use_up(filler)
        return np.full((100, 64), rows.start)

    with pytest.raises(OSError, match=r"cannot write .*clips_00005") as caught:
        cache.fill("clips", compute)
    assert "No space left on device" in str(caught.value)
    assert not list(cache.folder.glob(".*"))
    assert cache.count_missing() == 500
    filler.unlink()
    filler.touch()
    cache.fill("clips", compute)
    np.testing.assert_array_equal(cache.read("clips")[::100, 0], range(0, 1_000, 100))
