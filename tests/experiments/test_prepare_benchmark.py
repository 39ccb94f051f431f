"""The program that prepares published benchmarks, and its mixtures scored."""

import json

import numpy as np
import pytest
import soundfile

from data_pipelines.catalogue import load_catalogue
from data_pipelines.manifest import read_manifest, render
from experiments import scoring
from experiments.embeddings import CatalogueEmbedder, evaluation_mixtures
from marssep_jax.config import EncoderConfig
from marssep_jax.encoders.inputs import make_inputs
from marssep_jax.evaluation import evaluate_mixtures, summarise
from tests.support.noises import noise

ROWS = "idx,caption,src_wav,noise_wav\n0,dog,a.wav,b.wav\n1,rain,c.wav,a.wav\n"


@pytest.fixture
def esc50(tmp_path):
    """AudioSep's ESC-50 in two mixtures, half a tenth of a second long."""
    (tmp_path / "esc50_eval.csv").write_text(ROWS)
    for number in range(2):
        target = noise(f"t{number}", 1_600, peak=3_000 + 2_000 * number)
        rest = noise(f"r{number}", 1_600, peak=4_000)
        soundfile.write(tmp_path / f"segment-{number}.wav", target, 32_000)
        soundfile.write(tmp_path / f"mixture-{number}.wav", target + rest, 32_000)
    return tmp_path


def prepared(program, folder, *more):
    options = (f"--manual_dir={folder}", f"--data_dir={folder / 'data'}", *more)
    return program("experiments.prepare", *options)


@pytest.mark.slow
def test_program_prepares_and_reports(program, esc50):
    report = esc50 / "report.json"
    outcome = prepared(program, esc50, "--benchmark=audiosep_esc50", f"--json={report}")
    assert outcome.code == 0, outcome.err
    assert "2 of 2 mixtures, SHA-256" in outcome.out
    assert "untouched mixture: mean SDR" in outcome.out
    summary = json.loads(report.read_text())
    assert summary["dataset"] == "audiosep_esc50"
    assert summary["benchmark"]["mixtures"] == 2
    assert summary["benchmark"]["left_out"] == []
    (esc50 / "mixture-1.wav").unlink()
    outcome = prepared(program, esc50, "--benchmark=audiosep_esc50", f"--json={report}")
    assert outcome.code == 0, outcome.err
    assert "  audiosep_esc50-0001: mixture-1.wav is missing" in outcome.out
    assert json.loads(report.read_text())["benchmark"]["mixtures"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "dataset is None and benchmark is None, expected one of them"),
        (("--benchmark=esc50",), "benchmark is 'esc50', expected one of vggsound_cl"),
        (("--benchmark=dcase2024_task9",), "expected the list lass_synthetic_valid"),
    ],
)
def test_program_says_what_is_wrong(program, tmp_path, options, message):
    outcome = prepared(program, tmp_path, *options)
    assert outcome.code == 1
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


INPUTS = EncoderConfig(embed_dim=4, text_length=24, image_size=8)


def test_only_targets_are_scored(esc50, encoder):
    """What does nothing scores the ratio that the manifest states."""
    from data_pipelines.published.benchmarks import BENCHMARKS
    from data_pipelines.published.preparation import prepare_published

    folder = prepare_published(
        BENCHMARKS["audiosep_esc50"],
        esc50,
        esc50 / "data",
        image_size=8,
        announce=lambda line: None,
    )
    tests = scoring.open_manifest(str(folder / "manifest_test.json"))
    bank = CatalogueEmbedder(encoder, make_inputs(INPUTS))(
        {"scale": np.float32(0.37)}, tests.data.catalogue
    )
    mixtures = list(evaluation_mixtures(tests.manifest, tests.data.catalogue, bank))
    assert scoring.asked_kinds(mixtures) == ("text", "composed")

    def untouched(mixture, query):
        return np.repeat(mixture[:, None], query.shape[1], axis=1)

    found = evaluate_mixtures(untouched, None, mixtures, kinds=("text",), bss=0)
    assert np.isnan(found.scores["text"]["sdr_db"][:, 1]).all()
    scores = summarise(found)["text"]
    assert (scores["n"], scores["num_mixtures"]) == (2, 2)
    stated = read_manifest(folder / "manifest_test.json")["untouched_sdr_db"]
    assert scores["sdr_db"] == pytest.approx(stated, abs=1e-3)
    assert scores["si_sdri_db"] == pytest.approx(0, abs=1e-5)
    catalogue = load_catalogue(folder)
    direct = []
    for entry in tests.manifest["mixtures"]:
        target, rest = render(entry, catalogue).astype(np.float64)
        direct.append(10 * np.log10(np.sum(target**2) / np.sum(rest**2)))
    assert scores["sdr_db"] == pytest.approx(np.mean(direct), abs=1e-3)
