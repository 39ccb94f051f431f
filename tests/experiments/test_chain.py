"""The whole path as a user runs it: what it leaves, and what can be done with it."""

import json
import math
import os
import shutil
import signal
import time

import numpy as np
import pytest
import soundfile

import marssep_jax
from data_pipelines.catalogue import save_catalogue
from data_pipelines.manifest import build_manifest, write_manifest
from experiments.configs import debug
from experiments.datasets import open_data
from experiments.outcome import MODELS
from experiments.settings import resolve

pytestmark = pytest.mark.slow

CONFIG = "--config=experiments/configs/debug.py"
KINDS = ("text", "audio", "image", "composed")
METRICS = ("sdr_db", "sir_db", "sar_db", "si_sdri_db", "judge")
STAGES = [
    *("prepare", "align-1", "align-2", "align-3", "judge"),
    *("supervised", "rl", "continued", "evaluate"),
]


def contents(folder):
    """Return every file with its time and size."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


@pytest.fixture(scope="module")
def summary(chain):
    return json.loads((chain / "summary.json").read_text())


@pytest.fixture(scope="module")
def data():
    settings = resolve(debug.get_config())
    return open_data(settings.data, settings.frontend, settings.encoder.image_size)


@pytest.fixture(scope="module")
def manifest(data):
    settings = resolve(debug.get_config())
    return build_manifest(
        data.catalogue,
        "unseen",
        settings.data.num_test,
        seed=0,
        num_samples=settings.frontend.num_samples,
    )


@pytest.fixture(scope="module")
def prepared(data, manifest, tmp_path_factory):
    """Return the manifest of the data set that a run makes in memory, on disk."""
    folder = tmp_path_factory.mktemp("synthetic")
    save_catalogue(data.catalogue, folder)
    write_manifest(manifest, folder / "manifest_unseen.json")
    return folder / "manifest_unseen.json"


def test_summary_has_every_stage(chain, summary):
    assert [stage["name"] for stage in summary["stages"]] == STAGES
    total = sum(stage["wall_s"] for stage in summary["stages"])
    assert math.isclose(total, summary["wall_s"], abs_tol=1e-6)
    # What is missing are the imports before the clock starts, and the report.
    elapsed = float(chain.with_suffix(".seconds").read_text())
    assert 0.5 * elapsed < summary["wall_s"] < elapsed
    for stage in summary["stages"][1:-1]:
        assert stage["metrics"], stage["name"]
        assert any(name.startswith("eval/") for name in stage["metrics"])
    assert summary["dataset"]["dataset"] == "synthetic"
    assert summary["versions"]["marssep_jax"] == marssep_jax.__version__


@pytest.mark.parametrize("model", MODELS)
def test_summary_has_every_score(summary, model):
    assert set(summary["evaluation"]) == {"supervised", "continued", "rl"}
    scores = summary["evaluation"][model]
    assert set(KINDS) <= set(scores)
    for kind in KINDS:
        for metric in METRICS:
            low, high = scores[kind]["ci95"][metric]
            assert low <= scores[kind][metric] <= high
        assert scores[kind]["judge"] < 0  # a log-probability


def test_models_differ_and_the_judge_is_one(chain, summary):
    found = [summary["evaluation"][m]["text"]["si_sdri_db"] for m in MODELS]
    assert len(set(found)) == 3
    judges = set()
    for name in ("listeners", *MODELS):
        record = (chain / "stages" / name / "model" / "bundle.json").read_text()
        judges.add(json.dumps(json.loads(record)["config"]["judge"]))
    assert len(judges) == 1


def test_paired_differences_are_those_of_the_means(summary):
    scores = summary["evaluation"]
    for other in ("supervised", "continued"):
        for kind in KINDS:
            pair = summary["paired"][f"rl_vs_{other}"][kind]["si_sdri_db"]
            means = [scores[m][kind]["si_sdri_db"] for m in ("rl", other)]
            assert math.isclose(pair["mean"], means[0] - means[1], abs_tol=1e-6)
            assert pair["ci95"][0] <= pair["mean"] <= pair["ci95"][1]


def test_report_and_figure(chain):
    page = (chain / "report.html").read_text()
    assert page.count("<audio") >= 12
    assert "://" not in page.replace("http://www.w3.org/", "")
    assert (chain / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_examples_can_be_heard(chain):
    folders = list((chain / "wav").iterdir())
    assert 1 <= len(folders) <= 3
    for folder in folders:
        names = {path.stem for path in folder.iterdir()}
        wanted = {"mixture", "target", "estimate_text", "estimate_audio"}
        assert wanted <= names <= wanted | {"estimate_image"}
        sounds = {name: soundfile.read(folder / f"{name}.wav") for name in names}
        assert {rate for _, rate in sounds.values()} == {11_025}
        assert {samples.shape for samples, _ in sounds.values()} == {(8_191,)}
        assert all(np.abs(samples).max() > 1e-3 for samples, _ in sounds.values())


def test_checkpoint_is_the_model_that_was_evaluated(chain, data, manifest):
    """Asked in the same words, it separates an example as the run did."""
    entries = {entry["id"]: entry for entry in manifest["mixtures"]}
    folder = next((chain / "wav").iterdir())
    (name,) = (name for name in entries if folder.name.startswith(name))
    words = data.catalogue.texts[entries[name]["queries"][0]["text_id"]]
    mixture, rate = soundfile.read(folder / "mixture.wav", dtype="float32")
    expected, _ = soundfile.read(folder / "estimate_text.wav", dtype="float32")
    separator = marssep_jax.Separator.load(chain / "checkpoint")
    found = separator(mixture, rate, text=words).estimate
    # 16-bit files; the signal's level is a tenth of full scale.
    np.testing.assert_allclose(np.squeeze(found), expected, atol=1e-3)
    assert separator.bundle.config["stage"] == "policy"


def test_second_call_trains_nothing(chain, program):
    before, begun = contents(chain), time.monotonic()
    outcome = program("experiments.quickstart", CONFIG, f"--workdir={chain}")
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"report: {chain / 'report.html'}\n"
    assert contents(chain) == before
    assert time.monotonic() - begun < 30  # imports, on a busy machine


def test_workdir_of_another_config(chain, program, tmp_path):
    """A run that has ended is not passed off as one with other settings."""
    before = contents(chain)
    config = tmp_path / "other.py"
    config.write_text(
        "from experiments.configs import debug\n"
        "def get_config(stage='supervised'):\n"
        "    config = debug.get_config(stage)\n"
        "    if stage == 'policy':\n"
        "        config.rl.clip_eps = 0.3\n"
        "    return config\n"
    )
    status, out, err = program(
        "experiments.quickstart", f"--config={config}", f"--workdir={chain}"
    )
    assert (status, out.count("report:")) == (1, 0)
    assert err.strip() == (
        "error: config.rl.clip_eps is 0.3, expected 0.2 as "
        f"{chain}/stages/rl was started with: use another workdir"
    )
    assert contents(chain) == before


def test_evaluate_finds_what_the_run_found(chain, summary, prepared, program, tmp_path):
    outcome = program(
        "experiments.evaluate",
        f"--checkpoint={chain}",
        f"--compare={chain / 'stages' / 'supervised'}",
        f"--manifest={prepared}",
        f"--json={tmp_path / 'scores.json'}",
    )
    assert outcome.code == 0, outcome.err
    assert "minus" in outcome.out
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["split"] == "unseen"
    for kind in KINDS:
        here, there = record["evaluation"][kind], summary["evaluation"]["rl"][kind]
        for metric in METRICS:
            # The same clips, read from disk; other batches of compiled code.
            assert math.isclose(here[metric], there[metric], abs_tol=1e-3)
            np.testing.assert_allclose(
                here["ci95"][metric], there["ci95"][metric], atol=1e-3
            )
            pair = record["paired"][kind][metric]
            assert pair["ci95"][0] <= pair["mean"] <= pair["ci95"][1]
            assert pair["num_mixtures"] == here["num_mixtures"]
    targets = [item for item in record["items"] if item["kind"] == "text"]
    mean = np.mean([item["si_sdri_db"] for item in targets])
    assert math.isclose(mean, record["evaluation"]["text"]["si_sdri_db"], abs_tol=1e-6)
    assert any(prepared.parent.glob("embeddings_*/header.json"))


def test_checkpoint_separates_files_as_they_are(chain, program, tmp_path):
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (50_001, 2))
    soundfile.write(tmp_path / "a.wav", samples, 44_100)
    outcome = program(
        "marssep_jax.cli",
        "separate",
        tmp_path / "a.wav",
        "--output",
        tmp_path / "out",
        "--text",
        "a low tone",
        "--checkpoint",
        chain / "checkpoint",
    )
    assert outcome.code == 0, outcome.err
    found, rate = soundfile.read(tmp_path / "out" / "a_target.wav")
    assert (rate, found.shape) == (44_100, samples.shape)
    assert np.abs(found).max() > 1e-3


def test_align_goes_on_with_the_stage_of_a_chain(chain, program, tmp_path):
    """The chain's first stage is what ``experiments.align`` does, no less."""
    workdir = tmp_path / "listeners"
    shutil.copytree(chain / "stages" / "listeners", workdir)
    outcome = program("experiments.align", CONFIG, f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    assert "is complete: nothing is trained again" in outcome.out
    models = (chain / "stages" / "listeners" / "model", workdir / "model")
    found = [(model / "parameters.npz").read_bytes() for model in models]
    assert found[0] == found[1]


def test_chain_goes_on_after_ctrl_c(chain, start, program, tmp_path):
    """Stopped in its third training, it keeps the first two and ends as ever."""
    shutil.copytree(chain, tmp_path / "run")
    run = tmp_path / "run"
    for name in ("report.html", "summary.json", "figure.png"):
        (run / name).unlink()
    for name in ("wav", "checkpoint", "stages/rl", "stages/continued"):
        shutil.rmtree(run / name)
    path = run / "stages" / "records.json"
    records = json.loads(path.read_text())["records"]
    kept = [r for r in records if r["step"] in ("prepare", "listeners", "supervised")]
    # Where the run is, is a setting of later stages only.
    path.write_text(json.dumps({"records": kept}))
    before = contents(run / "stages" / "supervised")

    with start("experiments.quickstart", CONFIG, f"--workdir={run}") as process:
        assert "training 3 of 4: rl" in process.stdout.readline()
        deadline = time.monotonic() + 120
        while not (run / "stages" / "rl" / "config.json").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "stopped"
    assert "Traceback" not in err
    assert not (run / "report.html").exists()
    assert len(json.loads(path.read_text())["records"]) == len(kept)

    outcome = program("experiments.quickstart", CONFIG, f"--workdir={run}")
    assert outcome.code == 0, outcome.err
    assert "training 2 of 4" not in outcome.out
    assert contents(run / "stages" / "supervised") == before
    model = os.path.join("checkpoint", "parameters.npz")
    assert (run / model).read_bytes() == (chain / model).read_bytes()
    found, wanted = (
        json.loads((folder / "summary.json").read_text()) for folder in (run, chain)
    )
    assert [stage["name"] for stage in found["stages"]] == STAGES
    for name in ("supervised", "rl"):  # the third's steps depend on time
        assert found["evaluation"][name] == wanted["evaluation"][name]
