"""Where the file of a listed video is looked for."""

import pytest

from data_pipelines.video_lists import Item
from data_pipelines.video_sources import Index, Source, stamp

VIDEO = "e2rM750-_Gc"
CLIP = Item(f"{VIDEO}_000242", "bongo", "test", VIDEO, 242)
OLD = Item(VIDEO, "bongo", "test", VIDEO)
SOLO = Item(f"violin/{VIDEO}", "violin", "test", VIDEO)


@pytest.fixture
def find(tmp_path):
    """Make files, and find an item's among them, relative to the folder."""

    def run(item, *names, folders=()):
        for name in folders:
            (tmp_path / name).mkdir(parents=True)
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        found = Index(tmp_path).find(item)
        if found is None:
            return None
        frames = found.frames and found.frames.removeprefix(f"{tmp_path}/")
        return Source(found.media.removeprefix(f"{tmp_path}/"), frames, found.start_s)

    return run


@pytest.mark.parametrize(
    "name",
    [
        f"{VIDEO}_000242.mp4",
        f"a/b/{VIDEO}_242.webm",
        f"{VIDEO}_242_252.MKV",
        f"audio/{VIDEO}_000242.wav",
    ],
)
def test_names_of_a_clip(find, name):
    assert find(CLIP, name, f"{VIDEO}_000001.mp4", "other.mp4") == Source(name)


def test_whole_video_is_cut(find):
    assert find(CLIP, f"{VIDEO}.mp4") == Source(f"{VIDEO}.mp4", None, 242)


def test_older_list_finds_clips_by_their_video(find):
    assert find(OLD, f"x/{VIDEO}_000242.mp4") == Source(f"x/{VIDEO}_000242.mp4")
    assert find(OLD, f"{VIDEO}.mp4") == Source(f"{VIDEO}.mp4")


def test_video_before_recording_and_its_class_before_others(find):
    names = [f"a/{VIDEO}.mp4", f"audio/violin/{VIDEO}.wav", f"violin/{VIDEO}.mp4"]
    assert find(SOLO, *names) == Source(f"violin/{VIDEO}.mp4")


def test_frames_beside_a_recording(find):
    names = [f"audio/violin/{VIDEO}.wav"]
    frames = f"frames/violin/{VIDEO}"
    assert find(SOLO, *names, folders=[frames]) == Source(names[0], frames)
    assert find(CLIP, f"audio/{CLIP.id}.wav", folders=[f"frames/{CLIP.id}"]) == Source(
        f"audio/{CLIP.id}.wav", f"frames/{CLIP.id}"
    )


def test_missing(find):
    assert find(CLIP, "vggsound.csv", f"{VIDEO}.txt", f"{VIDEO}x.mp4") is None


def test_stamp_changes_with_the_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"1")
    first = stamp(Source(str(path)))
    assert stamp(Source(str(path))) == first
    assert stamp(Source(str(path), start_s=3)) != first
    path.write_bytes(b"12")
    assert stamp(Source(str(path))) != first
