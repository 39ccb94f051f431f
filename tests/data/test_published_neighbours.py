"""DCASE 2024 Task 9 and AudioSep's sets, prepared from local copies made here."""

import numpy as np
import pytest
import soundfile

from data_pipelines.catalogue import load_catalogue
from data_pipelines.manifest import read_manifest, render, verify
from data_pipelines.published.benchmarks import BENCHMARKS
from data_pipelines.published.preparation import prepare_published
from tests.support.noises import RATE_HZ, noise, write_noise

DCASE_ROWS = """source, noise, snr, caption
one-hq,two-hq,10,Rain falls.
two-hq,one-hq,-13,A bell.
one-hq,gone-hq,3,Rain falls hard.
loud-hq,one-hq,-10,A horn.
short-hq,two-hq,0,A click.
"""


def prepare(name, manual_dir, data_dir, **options):
    lines = []
    folder = prepare_published(
        BENCHMARKS[name], manual_dir, data_dir, announce=lines.append, **options
    )
    return load_catalogue(folder), read_manifest(folder / "manifest_test.json"), lines


@pytest.fixture(scope="module")
def dcase(tmp_path_factory):
    base = tmp_path_factory.mktemp("dcase")
    audio = base / "lass_validation"
    for name, peak in (("one", 900), ("two", 3_000), ("loud", 30_000)):
        write_noise(audio / f"{name}-hq.wav", 160_000, peak=peak)
    write_noise(audio / "short-hq.wav", 100_000)
    (base / "lass_synthetic_validation.csv").write_text(DCASE_ROWS)
    return base, prepare("dcase2024_task9", base, base / "data")


def evaluator_mixture(base, source, noise_name, snr):
    """Mix as the challenge's evaluator does, in double precision."""
    read = (
        soundfile.read(base / f"lass_validation/{n}-hq.wav")[0]
        for n in (source, noise_name)
    )
    source, noises = read
    wanted = np.mean(source**2) / 10 ** (snr / 10)
    noises = noises * np.sqrt(wanted / np.mean(noises**2))
    peak = np.max(np.abs(source + noises))
    scale = 0.9 / peak if peak > 1 else 1.0
    return np.stack([source, noises]) * scale


def test_dcase_mixtures_have_the_stated_ratio(dcase):
    base, (catalogue, manifest, _) = dcase
    entries = {entry["id"][-4:]: entry for entry in manifest["mixtures"]}
    rows = {
        "0000": ("one", "two", 10),
        "0001": ("two", "one", -13),
        "0003": ("loud", "one", -10),
    }
    for number, row in rows.items():
        waves = render(entries[number], catalogue)
        assert waves.shape == (2, 160_000)
        # A float32 gain, and samples of at most 3 rounded to float32.
        np.testing.assert_allclose(waves, evaluator_mixture(base, *row), atol=3e-7)
    assert np.abs(render(entries["0003"], catalogue).sum(0)).max() == pytest.approx(0.9)
    assert entries["0000"]["sources"][0]["gain"] == 1.0
    assert entries["0003"]["sources"][0]["gain"] < 1.0
    captions = [catalogue.texts[e["queries"][0]["text_id"]] for e in entries.values()]
    assert captions == ["Rain falls.", "A bell.", "A horn.", "A click."]
    assert manifest["scored_samples"] is None
    verify(manifest, catalogue)


def test_dcase_names_what_is_missing_or_of_another_length(dcase):
    _, (_, manifest, lines) = dcase
    assert manifest["left_out"] == [
        {"id": "dcase2024_task9-0002", "recordings": {"gone-hq": "missing"}}
    ]
    assert manifest["notes"] == {"short-hq": "has 6.25 s, zeros follow"}
    assert "the list has 5 mixtures, the published one 3000" in lines
    assert "4 of 5 mixtures" in lines[2]
    # Rows of captions are not levels: -13 dB below, 10 dB above, -10, and 0 less.
    assert manifest["untouched_sdr_db"] == pytest.approx(
        (10 - 13 - 10 + 0) / 4, abs=0.01
    )


@pytest.fixture
def esc50(tmp_path):
    """Two mixtures of AudioSep's ESC-50, the second a little longer, and one gone."""
    base = tmp_path / "evaluation"
    (base / "metadata").mkdir(parents=True)
    (base / "metadata" / "esc50_eval.csv").write_text(
        "idx,caption,src_wav,noise_wav\n"
        "0,dog,a.wav,b.wav\n1,rain,c.wav,a.wav\n2,dog,d.wav,a.wav\n"
    )
    audio = base / "data" / "esc50"
    audio.mkdir(parents=True)
    for number, length in ((0, 4_000), (1, 4_800)):
        target = noise(f"t{number}", length, peak=30_000)
        # What is left of a stored mixture may pass 16 bits.
        mixture = noise(f"m{number}", length, peak=30_000)
        soundfile.write(audio / f"segment-{number}.wav", target, 32_000)
        soundfile.write(audio / f"mixture-{number}.wav", mixture, 32_000)
    return base


def test_stored_mixtures_come_back_bit_for_bit(esc50, tmp_path):
    catalogue, manifest, _ = prepare("audiosep_esc50", esc50, tmp_path / "data")
    assert (manifest["sample_rate_hz"], manifest["num_samples"]) == (32_000, 4_800)
    assert [entry["id"][-4:] for entry in manifest["mixtures"]] == ["0000", "0001"]
    assert manifest["left_out"] == [
        {
            "id": "audiosep_esc50-0002",
            "recordings": {"segment-2.wav": "missing", "mixture-2.wav": "missing"},
        }
    ]
    for number, entry in enumerate(manifest["mixtures"]):
        target, rest = render(entry, catalogue)
        length = (4_000, 4_800)[number]
        stored = [noise(f"{n}{number}", length, peak=30_000)[:, 0] for n in "tm"]
        np.testing.assert_array_equal(target[:length] * 32_768, stored[0])
        np.testing.assert_array_equal((target + rest)[:length] * 32_768, stored[1])
        assert not np.any(target[length:])
        assert not np.any(rest[length:])
    words = [
        catalogue.class_names[s["label"]] for s in manifest["mixtures"][0]["sources"]
    ]
    assert words == ["dog", "other sounds"]
    assert manifest["mixtures"][0]["queries"][1] is None
    verify(manifest, catalogue)


def test_stored_mixtures_at_another_rate(esc50, tmp_path):
    catalogue, manifest, _ = prepare(
        "audiosep_esc50", esc50, tmp_path / "data", sample_rate_hz=RATE_HZ
    )
    assert (catalogue.sample_rate_hz, manifest["num_samples"]) == (16_000, 2_400)
    verify(manifest, catalogue)


def test_a_mixture_that_is_its_target_is_left_out(esc50, tmp_path):
    audio = esc50 / "data" / "esc50"
    (audio / "mixture-1.wav").write_bytes((audio / "segment-1.wav").read_bytes())
    _, manifest, _ = prepare("audiosep_esc50", esc50, tmp_path / "data")
    named = {left["id"]: left["recordings"] for left in manifest["left_out"]}
    assert named["audiosep_esc50-0001"] == {"mixture-1.wav": "silent"}
