"""Many videos: a file each, kept between runs, by processes that may die."""

import os

import numpy as np
import pytest

from data_pipelines.catalogue import writing_rows
from data_pipelines.video_cache import (
    CRASHED,
    Cache,
    Job,
    Outcome,
    extract_all,
    run,
)
from data_pipelines.video_decoding import Form, extract
from data_pipelines.video_sources import Source
from tests.support.videos import make_video

FORM = Form(16_000, 32)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Three films and a file that is none."""
    folder = tmp_path_factory.mktemp("films")
    paths = {
        f"class/{n}": make_video(folder / f"{n}.mp4", 1.0, hz=300 + 50 * n)
        for n in range(3)
    }
    paths["class/bad"] = folder / "bad.mp4"
    paths["class/bad"].write_text("no film")
    return paths


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache", FORM)


def jobs_of(films, cache):
    return [cache.job(name, Source(str(path))) for name, path in films.items()]


def files_of(cache):
    return {p: p.stat().st_mtime_ns for p in cache.folder.rglob("*") if p.is_file()}


def test_one_file_each_that_is_kept(films, cache):
    jobs, told = jobs_of(films, cache), []
    first = list(extract_all(jobs, FORM, 1, told.append))
    assert told == [1, 2, 3, 4]
    assert [outcome.id for outcome in first] == list(films)
    assert [bool(outcome.unreadable) for outcome in first] == [False] * 3 + [True]
    before = files_of(cache)
    assert len(before) == 3
    assert list(extract_all(jobs, FORM, 1)) == first
    assert files_of(cache) == before
    for name in list(films)[:3]:
        loaded, expected = cache.load(name), extract(Source(str(films[name])), FORM)
        np.testing.assert_array_equal(loaded.audio, expected.audio)
        assert loaded[1:] == expected[1:]


def test_file_that_changed_is_extracted_again(films, cache, tmp_path):
    path = make_video(tmp_path / "a.mp4", 1.0)
    job = cache.job("a", Source(str(path)))
    run(job, FORM)
    make_video(path, 2.0)
    assert run(job, FORM) == Outcome("a")
    assert len(cache.load("a").audio) > 1.9 * FORM.sample_rate_hz


def test_damaged_file_is_extracted_again(films, cache):
    job = jobs_of(films, cache)[0]
    run(job, FORM)
    path = cache.path(job.id)
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(ValueError, match="expected an extracted video"):
        cache.load(job.id)
    assert run(job, FORM) == Outcome(job.id)
    assert len(cache.load(job.id).audio)


class Deadly(str):
    """A path that ends the process it is sent to."""

    def __reduce__(self):
        return os._exit, (1,)


def test_processes_and_a_crash(films, cache):
    jobs = jobs_of(films, cache)
    target = cache.path("deadly")
    # Workers are killed in the middle of their files: as the crash may find them.
    target.parent.mkdir(parents=True)
    target.with_name(f".{target.name}.1.partial").write_bytes(b"half")
    jobs.insert(1, Job("deadly", Source(Deadly("deadly.mp4")), str(target)))
    outcomes = {o.id: o.unreadable for o in extract_all(jobs, FORM, 2)}
    assert outcomes.pop("deadly") == CRASHED
    assert outcomes.keys() == films.keys()
    assert [name for name, reason in outcomes.items() if reason] == ["class/bad"]
    assert len(files_of(cache)) == 3


def test_no_room_ends_it(films, cache):
    cache.folder.mkdir()
    # A file where a folder is wanted: as good as a full disk, and anyone's.
    cache.path("class/0").parent.write_text("in the way")
    for workers in (1, 2):
        with pytest.raises(OSError, match="File exists"):
            list(extract_all(jobs_of(films, cache), FORM, workers))


def test_rows_are_written_one_by_one(tmp_path):
    path, rows = tmp_path / "rows.npy", np.arange(3_000, dtype=np.int16).reshape(-1, 3)
    with writing_rows(path, (3,), np.int16) as writer:
        for row in rows:
            writer.append(row)
        assert not path.exists()
    np.testing.assert_array_equal(np.load(path, mmap_mode="r"), rows)
    with writing_rows(path, (2, 2), np.uint8):
        pass
    assert np.load(path).shape == (0, 2, 2)
    with (
        pytest.raises(RuntimeError),
        writing_rows(tmp_path / "other.npy", (2,), np.int16),
    ):
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["rows.npy"]
