"""Reading and cropping a user's recordings as the protocols want it."""

import numpy as np
import pytest
import soundfile

from data_pipelines.published.plans import Recording
from data_pipelines.published.recordings import (
    CLIP_SAMPLES,
    UnreadableError,
    central_crop,
    crop_start,
    find,
    read_int16,
)
from data_pipelines.video_lists import Item
from data_pipelines.video_sources import Index
from tests.support.noises import RATE_HZ, noise, write_noise


def protocol_crop(audio, num_frames):
    """Follow the published rule word for word, a sample at a time."""
    if len(audio) < 65_535:
        audio = list(audio) * (65_535 // len(audio) + 1)
    centre = int((num_frames // 2 - 0.5) * 16_000)
    out = [0] * 65_535
    for place in range(65_534):
        at = centre - 32_767 + place
        if 0 <= at < len(audio):
            out[place] = int(audio[at])
    return out


@pytest.mark.parametrize(
    ("length", "num_frames"),
    [
        (160_000, 12),  # the usual clip
        (160_000, 11),
        (144_000, 9),
        (113_000, 12),  # ends inside its crop
        (30_000, 12),  # shorter than a crop
        (100, 12),
        (65_535, 5),  # the crop begins before the clip
        (400_000, 24),
        (50_000, 200),  # the crop lies behind the end
    ],
)
def test_crop_follows_the_published_rule(length, num_frames):
    audio = noise("clip", length)[:, 0]
    crop = central_crop(audio, num_frames, RATE_HZ)
    assert crop.dtype == np.int16
    assert crop.tolist() == protocol_crop(audio, num_frames)
    assert crop[-1] == 0


def test_usual_clips_begin_at_3_45_seconds():
    # Frame 6 of 12 is centred on 5.5 s = 88000 samples.
    assert crop_start(12, RATE_HZ) == 88_000 - 32_767
    assert central_crop(np.arange(160_000) % 30_000, 12, RATE_HZ)[0] == 55_233 - 30_000
    assert crop_start(None, RATE_HZ) == 0
    assert CLIP_SAMPLES == 65_535


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_sixteen_bits_are_taken_as_they_are(tmp_path, name):
    samples = write_noise(tmp_path / name, 4_000, peak=32_767)
    np.testing.assert_array_equal(read_int16(tmp_path / name, RATE_HZ), samples[:, 0])


def test_channels_are_averaged(tmp_path):
    samples = write_noise(tmp_path / "a.wav", 4_000, channels=2)
    expected = np.rint(samples.astype(np.float64).mean(axis=1))
    np.testing.assert_array_equal(read_int16(tmp_path / "a.wav", RATE_HZ), expected)


def test_other_rates_are_resampled(tmp_path):
    time = np.arange(44_100) / 44_100
    wave = 0.5 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.wav", wave, 44_100, subtype="PCM_24")
    found = read_int16(tmp_path / "a.wav", RATE_HZ)
    assert len(found) == 16_000
    expected = 16_384 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    # soxr's high quality filter is flat to 0.1 %, away from the ends.
    np.testing.assert_allclose(found[500:-500], expected[500:-500], atol=20)


def test_floats_beyond_full_scale_are_clipped(tmp_path):
    wave = np.asarray([0.25, 1.5, -2.0, -1.0, 0.0])
    soundfile.write(tmp_path / "a.wav", wave, RATE_HZ, subtype="FLOAT")
    found = read_int16(tmp_path / "a.wav", RATE_HZ)
    assert found.tolist() == [8_192, 32_767, -32_768, -32_768, 0]


def test_what_cannot_be_read_says_why(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"no audio")
    with pytest.raises(UnreadableError, match="no audio file"):
        read_int16(path, RATE_HZ)
    soundfile.write(path, np.zeros(0), RATE_HZ)
    with pytest.raises(UnreadableError, match="no samples"):
        read_int16(path, RATE_HZ)
    soundfile.write(path, np.asarray([0.0, np.nan]), RATE_HZ, subtype="FLOAT")
    with pytest.raises(UnreadableError, match="not finite"):
        read_int16(path, RATE_HZ)


def test_files_are_found_by_the_videos_they_are_of(tmp_path):
    for name in (
        "deep/er/abcdefghijk_000030.flac",
        "lmnopqrstuv_7.wav",
        "other/video_id-42.wav",
        "violin/video_id-42.flac",
        "wholevideo1_000030.wav",
        "frames/abcdefghijk_000030/000006.jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    index = Index(tmp_path)

    def found(clip, label="", start_s=None):
        video = clip[:11] if start_s is not None else clip.rpartition("/")[2]
        item = Item(clip, label, "test", video, start_s, 12)
        return find(Recording(clip, item=item), index)

    source = found("abcdefghijk_000030", start_s=30)
    assert source.media == str(tmp_path / "deep/er/abcdefghijk_000030.flac")
    assert source.frames == str(tmp_path / "frames/abcdefghijk_000030")
    assert found("lmnopqrstuv_000007", start_s=7).media.endswith("lmnopqrstuv_7.wav")
    solo = found("violin/video_id-42", "violin")
    assert solo.media == str(tmp_path / "violin/video_id-42.flac")
    assert found("abcdefghijk_000031", start_s=31) is None
    # MUSIC wants whole videos: ten seconds of one are none.
    assert found("tuba/wholevideo1", "tuba") is None
