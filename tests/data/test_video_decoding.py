"""Real films of several codecs, whole and damaged, made in the test."""

import numpy as np
import pytest

from data_pipelines.video_decoding import Extracted, Form, UnreadableError, extract
from data_pipelines.video_pictures import from_jpeg
from data_pipelines.video_sources import Source
from tests.support.videos import make_frames, make_video

RATE = 16_000
WHOLE = Form(RATE, 32)
CLIP = Form(RATE, 32, 4)


def greys(extracted: Extracted):
    return [round(float(from_jpeg(jpeg).mean())) for jpeg in extracted.frames]


def loudest_hz(audio):
    middle = audio[len(audio) // 4 : 3 * len(audio) // 4].astype(np.float64)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return np.argmax(spectrum) * RATE / len(middle)


def refusal(path, form=WHOLE, **source):
    with pytest.raises(UnreadableError) as caught:
        extract(Source(str(path), **source), form)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "video", "audio", "rate"),
    [
        ("a.mp4", "libx264", "aac", 44_100),
        ("b.mkv", "mpeg4", "libmp3lame", 48_000),
        ("c.webm", "libvpx-vp9", "libopus", 48_000),
        ("d.avi", "mpeg4", "libmp3lame", 22_050),
        ("e.mov", "libx264", "pcm_s16le", 8_000),
    ],
)
def test_codecs(tmp_path, name, video, audio, rate):
    path = make_video(
        tmp_path / name, 3.0, video=video, audio=audio, rate=rate, channels=2
    )
    made = extract(Source(str(path)), WHOLE)
    assert made.audio.dtype == np.int16
    # The encoder's padding stays where a container cannot tell of it.
    assert 3.0 * RATE - 1 <= len(made.audio) <= 3.1 * RATE
    assert loudest_hz(made.audio) == pytest.approx(440, abs=1)
    # A tone of 0.3 on the left, nothing on the right: their mean has 0.15.
    rms = np.sqrt(np.mean((made.audio[4_000:-4_000] / 32_768) ** 2))
    assert rms == pytest.approx(0.15 / np.sqrt(2), rel=0.06)  # MP3 loses 5 %
    # Pictures of the middle of each second; codecs are off by a little.
    np.testing.assert_allclose(greys(made), [0, 20, 40], atol=3)
    assert from_jpeg(made.frames[0]).shape == (32, 32, 3)
    assert made.note == ""


def test_sound_keeps_its_place(tmp_path):
    """Resampling and decoding shift nothing: PCM against the formula."""
    path = make_video(tmp_path / "a.mkv", 1.0, audio="pcm_s16le", rate=48_000)
    audio = extract(Source(str(path)), WHOLE).audio / 32_768
    expected = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    # Away from the ends, where the filter rings; int16 rounds by 3e-5.
    np.testing.assert_allclose(audio[500:-500], expected[500:-500], atol=2e-4)


def test_half_a_second(tmp_path):
    made = extract(Source(str(make_video(tmp_path / "a.mp4", 0.5))), CLIP)
    assert len(made.audio) == pytest.approx(RATE // 2, abs=32)
    np.testing.assert_allclose(greys(made), [0], atol=3)


def test_recording_without_film(tmp_path):
    path = make_video(tmp_path / "a.wav", 1.0, video=None, audio="pcm_s16le")
    made = extract(Source(str(path)), WHOLE)
    assert len(made.audio) == RATE
    assert made.frames == ()
    assert made.note == "no film: the file has no video stream"


def test_recording_with_frames(tmp_path):
    path = make_video(tmp_path / "a.flac", 2.0, video=None, audio="flac")
    make_frames(tmp_path / "frames" / "a", 12)
    made = extract(Source(str(path), str(tmp_path / "frames" / "a")), WHOLE)
    np.testing.assert_allclose(greys(made), [20 * n for n in range(12)], atol=2)
    assert made.note == ""
    (tmp_path / "frames" / "a" / "000002.jpg").write_bytes(b"no picture")
    made = extract(Source(str(path), str(tmp_path / "frames" / "a")), WHOLE)
    assert made.frames == ()
    assert made.note == "pictures: 000002.jpg cannot be read"


def test_clip_out_of_a_whole_video(tmp_path):
    # Keyframes are 12 s apart at most: the cut falls between two.
    path = make_video(tmp_path / "a.mp4", 11.0, hz=300.0)
    made = extract(Source(str(path), start_s=5), CLIP)
    assert len(made.audio) == 4 * RATE
    np.testing.assert_allclose(greys(made), [100, 120, 140, 160], atol=3)
    # The tone's phase says which second it is: 300 Hz has whole periods in each.
    expected = 0.3 * np.sin(2 * np.pi * 300 * np.arange(4 * RATE) / RATE)
    middle = slice(RATE, 3 * RATE)
    np.testing.assert_allclose(made.audio[middle] / 32_768, expected[middle], atol=0.02)
    assert refusal(path, CLIP, start_s=30) == "ends at 11 s, expected second 30"
    assert refusal(path, CLIP) == (
        "lasts 11 s, expected a clip of 4 s, or a file named by the video's id and a "
        "start second in the list"
    )


def test_clip_is_not_cut_again(tmp_path):
    path = make_video(tmp_path / "a.mp4", 5.0)
    made = extract(Source(str(path), start_s=100), CLIP)
    assert len(made.audio) == 4 * RATE
    np.testing.assert_allclose(greys(made), [0, 20, 40, 60], atol=3)


def test_no_sound(tmp_path):
    path = make_video(tmp_path / "a.mp4", 1.0, audio=None)
    assert refusal(path) == "no sound: the file has no audio stream"


def test_silent(tmp_path):
    path = make_video(tmp_path / "a.mp4", 1.0, gain=0.0)
    assert refusal(path) == "silent: nothing to be heard"


def test_no_video_at_all(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"hello" * 100)
    assert "Invalid data" in refusal(path)
    path.write_bytes(b"")
    assert refusal(path)
    assert "No such file" in refusal(tmp_path / "none.mp4")


@pytest.mark.parametrize(
    ("name", "audio", "options", "reason"),
    [
        ("a.mp4", "aac", {}, "Invalid data"),  # its index was to come last
        ("b.mp4", "aac", {"movflags": "faststart"}, "Invalid data"),
        ("c.mkv", "libopus", {}, "breaks off after "),
    ],
)
def test_truncated(tmp_path, name, audio, options, reason):
    path = make_video(tmp_path / name, 4.0, audio=audio, options=options)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    assert reason in refusal(path)


def test_damage_within_a_film_costs_its_pictures_only(tmp_path):
    path = make_video(tmp_path / "a.avi", 3.0, video="mpeg4", audio="pcm_s16le")
    whole = extract(Source(str(path)), WHOLE)
    raw = bytearray(path.read_bytes())
    place, index = raw.find(b"00dc"), raw.rfind(b"idx1")
    while 0 <= place < index:  # every picture's data
        size = int.from_bytes(raw[place + 4 : place + 8], "little")
        raw[place + 8 : place + 8 + size] = b"\xff" * size
        place = raw.find(b"00dc", place + 8 + size)
    path.write_bytes(raw)
    made = extract(Source(str(path)), WHOLE)
    np.testing.assert_array_equal(made.audio, whole.audio)
    assert made.frames == ()
    assert made.note.startswith("pictures: ")


def test_samples_that_are_no_numbers(tmp_path):
    path = make_video(
        tmp_path / "a.wav", 1.0, video=None, audio="pcm_f32le", gain=np.nan
    )
    assert refusal(path) == "its samples are not finite"
