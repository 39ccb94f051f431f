"""Reading, writing and resampling, on real files."""

import io
import os

import numpy as np
import pytest
import soundfile

from marssep_jax.audio import open_audio, read_audio, resample, write_audio
from marssep_jax.audio_writer import AudioWriter

RATE = 44_100


def noise(channels=2, length=5_000, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(-0.5, 0.5, (channels, length)).astype(np.float32)


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_16", 2.0**-15), ("PCM_24", 2.0**-23), ("FLOAT", 0.0)],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_written_samples_come_back(tmp_path, subtype, step, channels):
    path, waveform = tmp_path / "a.wav", noise(channels)
    write_audio(path, waveform, RATE, subtype)
    read, rate = read_audio(path)
    assert (rate, read.shape, read.dtype) == (RATE, waveform.shape, np.float32)
    # Rounded to the nearest step; a step is exact in float32.
    assert np.abs(read - waveform).max() <= 0.5 * step
    assert soundfile.info(path).subtype == subtype


def test_sixteen_bit_samples_survive_a_round_trip_bit_for_bit(tmp_path):
    every = np.arange(-32_768, 32_768, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", every, RATE)
    waveform, _ = read_audio(tmp_path / "a.wav")
    write_audio(tmp_path / "b.wav", waveform, RATE, "PCM_16")
    again, _ = soundfile.read(tmp_path / "b.wav", dtype="int16")
    np.testing.assert_array_equal(again, every)


@pytest.mark.parametrize(
    ("name", "subtype", "kept"),
    [
        ("a.wav", "PCM_U8", "PCM_16"),
        ("a.wav", "MPEG_LAYER_III", "PCM_16"),
        ("a.wav", "DOUBLE", "FLOAT"),
        ("a.flac", "FLOAT", "PCM_24"),
        ("a.flac", "PCM_16", "PCM_16"),
    ],
)
def test_container_takes_the_nearest_sample_format(tmp_path, name, subtype, kept):
    write_audio(tmp_path / name, noise(1), RATE, subtype)
    assert soundfile.info(tmp_path / name).subtype == kept


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.mp3", {}),
        ("a.ogg", {}),
        ("a.flac", {}),
        ("a.wav", {"subtype": "PCM_U8"}),
    ],
)
def test_reads_what_people_have(tmp_path, name, settings):
    seconds = np.arange(RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds)
    soundfile.write(tmp_path / name, tone, RATE, **settings)
    waveform, rate = read_audio(tmp_path / name)
    assert (rate, waveform.shape) == (RATE, (1, RATE))
    inside = slice(4_000, -4_000)
    error = waveform[0, inside] - tone[inside]
    # 8 bit leaves -45 dB of rounding; the lossy codecs stay below -30 dB here.
    assert 10 * np.log10(np.mean(error**2) / np.mean(tone[inside] ** 2)) < -30


def test_blocks_add_up_to_the_file(tmp_path):
    waveform = noise(2, 10_001)
    write_audio(tmp_path / "a.wav", waveform, RATE)
    with open_audio(tmp_path / "a.wav") as reader:
        blocks = list(reader.blocks(4_096))
    assert [block.shape[1] for block in blocks] == [4_096, 4_096, 1_809]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), waveform)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"clip is '.*no\.wav', expected an ex"):
        read_audio(tmp_path / "no.wav", "clip")
    with pytest.raises(IsADirectoryError, match="expected a file, not a folder"):
        read_audio(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello, I am text\n" * 20, b"RIFF"])
def test_what_is_no_recording_is_refused(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.wav', expected a readable wav") as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)


def test_header_without_samples_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2)), RATE)
    with pytest.raises(ValueError, match="expected at least one sample"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_first_bad_sample_is_named(tmp_path, bad):
    waveform = noise(2).T.copy()
    waveform[3_210, 1] = bad
    soundfile.write(tmp_path / "a.wav", waveform, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"sample 3210 of channel 1 is (nan|inf)"):
        read_audio(tmp_path / "a.wav")


def test_impossible_rate_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1)[0], 2_000_000_000)
    with pytest.raises(ValueError, match="1000 to 768000 Hz, not 2000000000"):
        read_audio(tmp_path / "a.wav")


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
    def interrupted():
        with AudioWriter(tmp_path / "a.wav", RATE, 1) as writer:
            writer.write(noise(1))
            assert len(os.listdir(tmp_path)) == 1  # the temporary name only
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_an_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.wav"
    write_audio(path, noise(1, seed=1), RATE)
    with pytest.raises(ValueError, match="not finite"):
        write_audio(path, np.full((1, 9), np.nan, np.float32), RATE)
    np.testing.assert_array_equal(read_audio(path)[0], noise(1, seed=1))


def test_writing_refuses_other_formats(tmp_path):
    with pytest.raises(ValueError, match=r"expected a name in \.wav or \.flac"):
        write_audio(tmp_path / "a.mp3", noise(1), RATE)


def test_clipped_samples_are_counted_where_the_format_clips(tmp_path):
    loud = np.array([[0.5, 1.5, -2.0, 1.0]], np.float32)
    with AudioWriter(tmp_path / "a.wav", RATE, 1, "PCM_16") as writer:
        writer.write(loud)
    assert writer.num_clipped == 2
    with AudioWriter(tmp_path / "b.wav", RATE, 1, "FLOAT") as writer:
        writer.write(loud)
    assert writer.num_clipped == 0
    np.testing.assert_array_equal(read_audio(tmp_path / "b.wav")[0], loud)


@pytest.mark.parametrize(("rate", "new"), [(44_100, 16_000), (8_000, 16_000)])
def test_resampled_tone_is_the_tone(rate, new):
    tone = np.sin(2 * np.pi * 1_000 * np.arange(rate) / rate).astype(np.float32)
    wanted = np.sin(2 * np.pi * 1_000 * np.arange(new) / new)
    resampled = resample(np.stack([tone, -tone]), rate, new)
    assert resampled.shape == (2, new)
    inside = slice(new // 10, -new // 10)  # the filter rings at both ends
    # soxr HQ works with 20 bits: 1e-5 is its noise floor with room.
    np.testing.assert_allclose(resampled[0, inside], wanted[inside], atol=1e-5)
    np.testing.assert_array_equal(resampled[1], -resampled[0])


@pytest.mark.parametrize("length", [1, 2, 3, 100])
def test_resampling_very_short_clips_gives_the_asked_length(length):
    waveform = np.ones(length, np.float32)
    assert resample(waveform, 96_000, 16_000, 7).shape == (7,)
    assert np.isfinite(resample(waveform, 96_000, 16_000, 7)).all()
    assert resample(waveform, 16_000, 16_000).tolist() == waveform.tolist()


def test_decoders_keep_their_comments_to_themselves(tmp_path, capfd):
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, 9_000)
    soundfile.write(tmp_path / "a.mp3", sound, 16_000)
    whole = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(whole[:-700])
    with soundfile.SoundFile(tmp_path / "a.mp3") as file:
        file.read()
    assert "arning" in capfd.readouterr().err  # of the library, by itself
    waveform, _ = read_audio(tmp_path / "a.mp3")
    assert waveform.shape[1] > 5_000
    os.write(2, b"heard again\n")
    assert capfd.readouterr().err == "heard again\n"


def test_open_files_are_read_like_named_ones(tmp_path):
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, (900, 2)).astype(np.float32)
    write_audio(tmp_path / "a.wav", sound.T, 44_100)
    with open(tmp_path / "a.wav", "rb") as file:
        waveform, rate = read_audio(file)
    np.testing.assert_array_equal(waveform, sound.T)
    assert rate == 44_100


def test_header_that_points_before_the_file(tmp_path):
    """Found by mutation: a byte of an AIFF's head is missing, all else is shifted."""
    soundfile.write(tmp_path / "a.aiff", np.zeros(300), 44_100)
    raw = (tmp_path / "a.aiff").read_bytes()
    # An exception in the library's callback would be a warning, and so an error here.
    with pytest.raises(ValueError, match="expected a readable wav, flac, ogg or mp3"):
        read_audio(io.BytesIO(raw[:20] + raw[21:]))
