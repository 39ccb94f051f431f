import numpy as np
import pytest

from data_pipelines import fonts
from data_pipelines.melodies import INSTRUMENTS, Note
from data_pipelines.renderer import Player, render_clip

RATE = 11_025


@pytest.fixture(scope="module")
def player():
    return Player(fonts.train_font(), RATE)


def _pitch_hz(wave):
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8 * len(wave)))
    return np.argmax(spectrum) * RATE / (8 * len(wave))


@pytest.mark.parametrize(("key", "tuning"), [(69, 0.0), (81, 0.0), (69, 0.4)])
def test_flute_plays_the_pitch_it_is_given(player, key, tuning):
    wave = player.play([Note(0.0, 1.0, key, 100)], 73, RATE, tuning=tuning)
    found = 12 * np.log2(_pitch_hz(wave[3_000:9_000]) / 440) + 69
    # A sampled flute is some ten cents off and has vibrato.
    assert found == pytest.approx(key + tuning, abs=0.25)


def test_notes_start_when_they_should(player):
    wave = player.play([Note(0.5, 0.9, 60, 100)], 0, RATE)
    assert wave.shape == (RATE,)
    start = np.flatnonzero(np.abs(wave) > 0.05 * np.abs(wave).max())[0]
    # The piano speaks at once; the resampler's filter spreads it by under 10 ms.
    assert start / RATE == pytest.approx(0.5, abs=0.02)


def test_one_clip_leaves_nothing_for_the_next(player):
    note = [Note(0.0, 0.5, 48, 110)]
    first = player.play(note, 0, 8_000)
    player.play([Note(0.0, 9.0, 60, 117)], 21, 8_000)  # still sounding at the end
    np.testing.assert_array_equal(first, player.play(note, 0, 8_000))


def test_drums_differ_from_the_piano(player):
    notes = [Note(0.0, 0.3, 38, 110)]
    drum = player.play(notes, 0, 4_000, drums=True)
    assert np.abs(np.corrcoef(drum, player.play(notes, 0, 4_000))[0, 1]) < 0.5


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda i: i.name)
def test_every_instrument_sounds_at_the_common_level(player, instrument):
    clip = render_clip(player, instrument, np.random.default_rng(3), 8_192, RATE)
    assert clip.dtype == np.int16
    level = np.sqrt(np.mean((clip / 32_767.0) ** 2))
    assert 0.02 < level < 0.1001  # lower only where a peak would have clipped


def test_a_file_that_is_no_font_is_named(tmp_path):
    path = tmp_path / "font.sf2"
    path.write_text("no font")
    with pytest.raises(ValueError, match=r"font\.sf2 was given, expected a SoundFont"):
        Player(path, RATE)


def test_missing_renderer_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tinysoundfont", None)
    with pytest.raises(
        ValueError, match="pip install --no-deps tinysoundfont"
    ) as error:
        Player(fonts.train_font(), RATE)
    assert "\n" not in str(error.value)
