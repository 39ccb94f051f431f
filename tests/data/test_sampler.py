import tarfile

import numpy as np
import pytest

from data_pipelines.melodies import Note
from data_pipelines.sampler import Sampler, read_recordings
from tests.data.conftest import pack_tones

RATE = 11_025
VIOLIN = 40


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    path = tmp_path_factory.mktemp("sampler") / "notes.tgz"
    pack_tones(path, {"As4": 466.16, "A3": 220.0})
    return read_recordings(path)


@pytest.fixture(scope="module")
def sampler(recordings):
    return Sampler({VIOLIN: recordings}, RATE)


def pitch_hz(wave):
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8 * len(wave)))
    return np.argmax(spectrum) * RATE / (8 * len(wave))


def test_notes_are_read_in_order_without_their_silence(recordings):
    assert [r.key for r in recordings] == [57, 70]
    for recording, tone_hz in zip(recordings, (220.0, 466.16), strict=True):
        assert recording.sample_rate_hz == 22_050
        # Of 50 ms of silence the encoder's ringing may keep a little.
        assert 2.0 < len(recording.wave) / 22_050 < 2.03
        assert np.abs(recording.wave).max() == pytest.approx(1.0)
        spectrum = np.abs(np.fft.rfft(recording.wave))
        found = np.argmax(spectrum) * 22_050 / len(recording.wave)
        assert found == pytest.approx(tone_hz, abs=1.0)


@pytest.mark.parametrize("key", [57, 60, 69, 70, 77])
@pytest.mark.parametrize("tuning", [0.0, -0.4])
def test_the_pitch_is_the_key_and_the_tuning(sampler, key, tuning):
    wave = sampler.play([Note(0.0, 1.0, key, 100)], VIOLIN, RATE, tuning=tuning)
    found = 12 * np.log2(pitch_hz(wave[2_000:9_000]) / 440) + 69
    assert found == pytest.approx(key + tuning, abs=0.05)


def test_playback_speed_moves_the_pitch_and_not_the_time(recordings):
    faster = Sampler({VIOLIN: recordings}, RATE, speed=1.12)
    wave = faster.play([Note(0.5, 0.9, 69, 100)], VIOLIN, 2 * RATE)
    start = np.flatnonzero(np.abs(wave) > 0.05 * np.abs(wave).max())[0]
    assert start / RATE == pytest.approx(0.5, abs=0.02)
    assert pitch_hz(wave[6_000:9_000]) == pytest.approx(440 * 1.12, rel=0.01)


def test_notes_add_up_and_fade_when_released(sampler):
    notes = [Note(0.0, 0.5, 57, 100), Note(0.2, 0.6, 70, 60)]
    both = sampler.play(notes, VIOLIN, RATE)
    each = [sampler.play([note], VIOLIN, RATE) for note in notes]
    np.testing.assert_allclose(both, each[0] + each[1], atol=1e-6)
    first = np.abs(each[0])
    assert first[7_000:8_000].max() < 0.1 * first[4_000:5_000].max()
    assert first[9_000:].max() < 1e-3  # 0.3 s after the release


def test_a_harder_stroke_is_louder(sampler):
    soft, hard = (
        sampler.play([Note(0.0, 0.5, 60, v)], VIOLIN, RATE) for v in (60, 120)
    )
    assert np.abs(hard).max() / np.abs(soft).max() == pytest.approx(4.0, rel=1e-3)


def test_a_note_beyond_the_end_is_cut(sampler):
    wave = sampler.play([Note(0.9, 5.0, 60, 99), Note(3.0, 4.0, 60, 99)], VIOLIN, RATE)
    assert wave.shape == (RATE,)
    assert np.abs(wave[: RATE // 2]).max() == 0


@pytest.mark.parametrize(("program", "drums"), [(41, False), (VIOLIN, True)])
def test_what_was_not_recorded_is_refused(sampler, program, drums):
    with pytest.raises(ValueError, match=r"cannot be played, expected \[40\]"):
        sampler.play([Note(0.0, 1.0, 60, 99)], program, RATE, drums=drums)


def test_a_set_without_notes_or_with_a_broken_one_is_refused(tmp_path):
    pack_tones(tmp_path / "none.tgz", {})
    with pytest.raises(ValueError, match=r"none\.tgz holds no recorded notes"):
        read_recordings(tmp_path / "none.tgz")
    broken = tmp_path / "package" / "A3.mp3"
    broken.parent.mkdir()
    broken.write_bytes(b"no sound")
    with tarfile.open(tmp_path / "broken.tgz", "w:gz") as archive:
        archive.add(broken, "package/A3.mp3")
    with pytest.raises(ValueError, match=r"A3\.mp3 of .*broken\.tgz cannot be read"):
        read_recordings(tmp_path / "broken.tgz")


def test_a_silent_note_is_refused_by_name(tmp_path):
    pack_tones(tmp_path / "silent.tgz", {"A3": 0.0})
    with pytest.raises(ValueError, match=r"A3\.mp3 of .*silent\.tgz is silent"):
        read_recordings(tmp_path / "silent.tgz")
