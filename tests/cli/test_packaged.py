"""The model in the package, asked by someone who has trained nothing."""

import json

import numpy as np
import soundfile

from data_pipelines import fonts
from data_pipelines.melodies import INSTRUMENTS
from data_pipelines.renderer import Player, render_clip
from marssep_jax import Separator
from marssep_jax.metrics import si_sdr_improvement
from marssep_jax.model_names import IN_THE_PACKAGE

RATE = 22_050
PAIRS = (("violin", "xylophone"), ("tuba", "flute"), ("trumpet", "acoustic guitar"))


def play(player, name, number):
    """Return three seconds of new music on an instrument."""
    instrument = next(i for i in INSTRUMENTS if i.name == name)
    rng = np.random.default_rng(number)
    clip = render_clip(player, instrument, rng, 3 * RATE, RATE).astype(np.float32)
    return 0.1 * clip / clip.std()


def test_it_separates_what_is_asked_for(marssep, tmp_path):
    player = Player(fonts.train_font(), RATE)
    gains = []
    for number, pair in enumerate(PAIRS):
        sources = [play(player, name, number) for name in pair]
        soundfile.write("song.wav", sum(sources), RATE, subtype="FLOAT")
        for name, source in zip(pair, sources, strict=True):
            asked = ("--text", name, "--output", name, "--overwrite")
            assert marssep("separate", "song.wav", *asked).code == 0
            estimate, _ = soundfile.read(next((tmp_path / name).iterdir()))
            assert estimate.shape == source.shape
            found = si_sdr_improvement(estimate, source, mixture=sum(sources))
            gains.append(float(found))
    assert np.mean(gains) > 4.0
    assert min(gains) > 0.0


def test_a_model_trained_here_goes_first(marssep, checkpoint, recording, tmp_path):
    mixture = recording("song.wav")
    here = tmp_path / "runs" / "quickstart"
    here.mkdir(parents=True)
    (here / "checkpoint").symlink_to(checkpoint, target_is_directory=True)
    asked = ("--text", "violin", "--output", "out", "--json", "report.json")
    assert marssep("separate", mixture, *asked).code == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["checkpoint"] == "runs/quickstart/checkpoint"


def test_it_is_small_and_says_what_it_is(marssep):
    folder = IN_THE_PACKAGE / "instruments"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    named = ("TimGM6mb", "tonejs-instruments")
    for word in ("licence", *named, "Limits", "unseen", "SI-SDRi"):
        assert word in card
    outcome = marssep("inspect", "instruments")
    assert outcome.code == 0
    assert "pretrained/instruments" in outcome.out


def test_its_encoder_hears_what_words_say():
    separator = Separator.load("instruments")
    player = Player(fonts.train_font(), RATE)
    names = ("violin", "trumpet", "xylophone")
    clips = [(play(player, name, number), RATE) for number, name in enumerate(names)]
    heard = [separator.embed(audio=clip).embedding for clip in clips]
    told = [separator.embed(text=f"someone plays the {n}").embedding for n in names]
    near = np.stack(heard) @ np.stack(told).T
    assert near.argmax(axis=1).tolist() == [0, 1, 2]
