import numpy as np
import pytest

from data_pipelines import melodies
from data_pipelines.melodies import INSTRUMENTS, compose


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda i: i.name)
def test_music_stays_in_range_and_time(instrument):
    rng = np.random.default_rng(0)
    chords = 0
    for _ in range(30):
        notes = compose(rng, instrument, 3.3)
        assert notes
        starts = [note.start_s for note in notes]
        assert starts == sorted(starts)
        assert starts[-1] <= 3.3
        chords += len(starts) - len(set(starts))
        for note in notes:
            assert 60 <= note.velocity <= 117
            assert 0.08 < note.stop_s - note.start_s < 1.41
            if instrument.pattern:
                assert note.key in instrument.pattern
            else:
                assert instrument.low <= note.key <= instrument.high
    assert (chords > 0) == (instrument.chords > 0 or len(instrument.pattern) > 0)


def test_every_clip_is_new_music_and_reproducible():
    piano = INSTRUMENTS[13]
    one = compose(np.random.default_rng(1), piano, 3.0)
    assert one == compose(np.random.default_rng(1), piano, 3.0)
    assert one != compose(np.random.default_rng(2), piano, 3.0)


def test_melodies_keep_to_a_scale():
    flute = INSTRUMENTS[4]
    for seed in range(20):
        notes = compose(np.random.default_rng(seed), flute, 20.0)
        pitches = {note.key % 12 for note in notes}
        assert any(
            pitches <= {(root + step) % 12 for step in scale}
            for root in range(12)
            for scale in melodies.SCALES
        )


def test_eighteen_classes_in_known_families():
    assert len({i.name for i in INSTRUMENTS}) == 18
    assert {i.family for i in INSTRUMENTS} == set(melodies.FAMILIES)
    assert len({t.format("tuba") for t in melodies.TEMPLATES}) == 8
