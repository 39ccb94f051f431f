"""Words that no caption has: the committed table, and how answers are scored."""

import json
import re

import jax
import numpy as np
import pytest

from data_pipelines import ensemble, melodies
from data_pipelines.catalogue import save_catalogue
from experiments.asking import Group, measure, paired, read_table, score
from experiments.paraphrases import TABLE, table
from marssep_jax.bundle import ModelBundle, save_bundle
from marssep_jax.config import EncoderConfig, FrontendConfig, to_dict
from marssep_jax.encoders import make_encoder

FUNCTION_WORDS = {"a", "the", "of", "on", "for"}
"""Of the templates; they name nothing."""


def words_of(text):
    return set(re.findall(r"[a-z]+", text.lower()))


def test_the_table_shares_no_word_with_any_caption():
    rows = read_table(TABLE)
    assert len(rows) == len({row.text for row in rows}) == 50
    assert {row.label for row in rows} == {i.name for i in melodies.INSTRUMENTS}
    known = set().union(*map(words_of, ensemble.captions())) - FUNCTION_WORDS
    names = set().union(*(words_of(i.name) for i in melodies.INSTRUMENTS))
    for row in rows:
        assert not words_of(row.text) & known, row
        # Nor is a name hidden in another word, as in "violoncello".
        assert not [name for name in names if name in row.text.lower()], row


def test_accuracies_by_sound_and_by_words():
    # Classes 0 and 2 have clips; class 1 has captions alone and cannot be meant.
    axes = np.eye(3)
    clips = Group(axes[[0, 0, 2]], np.array([0, 0, 2]))
    captions = Group(axes[[0, 1, 0]], np.array([0, 1, 2]))  # a wrong one for 2
    asked = np.array([[1, 0, 0.1], [0, 1, 0.1], [0.1, 0, 1], [1, 0, 0]])
    found, answers = score(Group(asked, np.array([0, 2, 2, 2])), captions, clips)
    assert found["chance"] == 0.5
    assert answers["audio"].tolist() == [0, 2, 2, 0]
    assert found["audio"]["accuracy"] == 0.75
    # Captions of 0 and 2 lie at one place; the first of equals is taken.
    assert answers["captions"].tolist() == [0, 0, 0, 0]
    assert found["captions"]["accuracy"] == 0.25
    assert found["ordinary"]["accuracy"] == 0.5
    low, high = found["audio"]["ci95"]
    assert 0 <= low <= 0.75 <= high <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one row"),
        ("label,paraphrase\ntuba, \n", "in row 2"),
        ("label,words\ntuba,a bombardon\n", "a label and a paraphrase in row 2"),
    ],
)
def test_tables_that_say_nothing(tmp_path, text, message):
    with pytest.raises(ValueError, match=r"table is '.*nowhere', expected a CSV"):
        read_table(tmp_path / "nowhere")
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "table.csv")


def save_model(path, catalogue, seed):
    frontend = FrontendConfig(
        catalogue.sample_rate_hz, 1_024, n_fft=256, hop=64, num_rows=32
    )
    config = EncoderConfig(embed_dim=8, audio_widths=(8,), image_widths=(8,))
    params = make_encoder(config, frontend).init(jax.random.key(seed))
    bundle = ModelBundle(
        config={
            "frontend": to_dict(frontend),
            "encoder": to_dict(config),
            "separator": None,
            "judge": None,
        },
        separator_params=None,
        model_state=None,
        encoder_params={"encoder": jax.device_get(params), "fusion": {}},
        judge_params=None,
    )
    save_bundle(path, bundle)
    return str(path)


def test_two_models_are_asked_and_compared(tmp_path, catalogue):
    names, split = catalogue.class_names, "validation"
    lines = [f"{name},{name} indeed" for name in names]
    (tmp_path / "table.csv").write_text("label,paraphrase\n" + "\n".join(lines))
    rows = read_table(tmp_path / "table.csv")
    first, second = (
        measure(save_model(tmp_path / str(n), catalogue, n), catalogue, split, rows)
        for n in (0, 1)
    )
    assert first["text_tower"] == "hashed"
    assert first["audio"]["num"] == len(first["rows"]) == len(names)
    hits = np.mean([row["audio"] == row["label"] for row in first["rows"]])
    assert first["audio"]["accuracy"] == hits
    # These words are in captions: even a random tower hashes them alike.
    assert first["captions"]["accuracy"] > 2 * first["chance"]
    found = paired(first, second)
    expected = first["audio"]["accuracy"] - second["audio"]["accuracy"]
    assert found["audio"]["accuracy"] == pytest.approx(expected)
    assert "text tower hashed" in table(first)
    assert "difference to" in table(found)
    with pytest.raises(ValueError, match="label is 'theremin', expected a class of"):
        measure(
            first["checkpoint"], catalogue, split, [rows[0]._replace(label="theremin")]
        )
    with pytest.raises(ValueError, match="split is 'nowhere', expected one of"):
        measure(first["checkpoint"], catalogue, "nowhere", rows)


@pytest.mark.slow
def test_the_program(tmp_path, catalogue, program):
    save_catalogue(catalogue, tmp_path / "data")
    model = save_model(tmp_path / "model", catalogue, 0)
    lines = [f"{name},{name} indeed" for name in catalogue.class_names]
    (tmp_path / "table.csv").write_text("label,paraphrase\n" + "\n".join(lines))
    outcome = program(
        "experiments.paraphrases",
        *(f"--checkpoint={model}", f"--compare={model}", "--split=validation"),
        *(f"--table={tmp_path / 'table.csv'}", f"--dataset={tmp_path / 'data'}"),
        f"--json={tmp_path / 'found.json'}",
    )
    assert outcome.code == 0, outcome.err
    record = json.loads((tmp_path / "found.json").read_text())
    assert record["paired"]["audio"]["ci95"] == [0.0, 0.0]
    assert f"{record['audio']['accuracy']:.3f}" in outcome.out
    outcome = program(
        "experiments.paraphrases",
        *("--checkpoint=nowhere", f"--dataset={tmp_path / 'data'}"),
    )
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
