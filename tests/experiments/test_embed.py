"""The program that embeds a data set: shared, stopped, refused and out of room."""

import signal
import time

import jax
import numpy as np
import pytest

from data_pipelines.catalogue import load_catalogue, save_catalogue
from data_pipelines.synthetic import synthetic_catalogue
from experiments import build
from experiments.bank_cache import bank_cache, read_bank
from experiments.compiled import embedder
from experiments.configs import debug
from experiments.embed import embed
from experiments.settings import resolve
from experiments.starts import load_named_encoder
from marssep_jax.bundle import ModelBundle, save_bundle
from marssep_jax.config import FrontendConfig, to_dict
from marssep_jax.encoders import make_encoder
from tests.support.disks import use_up
from tests.support.tiny_imagebind import save_tiny

SETTINGS = resolve(debug.get_config())
NUM_TRAIN, TOTAL = 2_500, "2,608"
COUNTS = "text 24, image 60, audio_judge_train 6, audio_seen 6, audio_train 2,500, "


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the folder of an encoder that nobody trained."""
    folder = tmp_path_factory.mktemp("model") / "encoder"
    parts = build.make_parts(SETTINGS)
    params = build.init_encoder(jax.random.key(3), parts, SETTINGS.encoder)
    sections = {"frontend": SETTINGS.frontend, "encoder": SETTINGS.encoder}
    config = {name: to_dict(section) for name, section in sections.items()}
    config |= {"separator": None, "judge": None, "class_names": []}
    save_bundle(folder, ModelBundle(config, None, None, jax.device_get(params), None))
    return folder


def save_data(folder, num_train):
    small = synthetic_catalogue(8_191, clips_per_class=1, test_clips_per_class=1)
    rows = np.resize(np.arange(len(small.clips["train"])), num_train)
    arrays = {"clips": small.clips["train"][rows], "clip_label": rows.astype("int32")}
    arrays["clip_id"] = tuple(f"train/{number}" for number in range(num_train))
    changed = {k: getattr(small, k) | {"train": v} for k, v in arrays.items()}
    save_catalogue(small._replace(**changed), folder)
    return folder


@pytest.fixture
def dataset(tmp_path):
    """Return a prepared data set whose training clips fill three shards."""
    return save_data(tmp_path / "data", NUM_TRAIN)


def argv(dataset, model, **more):
    flags = {"dataset": dataset, "encoder": model} | more
    return "experiments.embed", *(f"--{name}={v}" for name, v in flags.items())


def shards_of(dataset, name="audio_train"):
    return list(dataset.glob(f"embeddings_*/{name}_*.npy"))


def assert_complete(dataset, model):
    config, frontend, params = load_named_encoder(str(model))
    catalogue = load_catalogue(dataset)
    bank = read_bank(bank_cache(dataset, catalogue, config, frontend, params))
    run = embedder(config, frontend)
    for name, rows in {"text": bank.text, "audio_train": bank.audio["train"]}.items():
        part = slice(len(rows) - 10, len(rows))
        expected = run.rows(params, catalogue, name, part)
        # float32, in batches that were cut elsewhere.
        np.testing.assert_allclose(rows[part], expected, atol=1e-5)
    assert not list(dataset.glob("embeddings_*/.*"))


def stop_in_the_middle(start, dataset, model, number):
    """Stop a run once it has written some of the training clips."""
    with start(*argv(dataset, model)) as process:
        deadline = time.monotonic() + 120
        while not shards_of(dataset):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert len(shards_of(dataset)) < 3
    return process.returncode, err


@pytest.mark.slow
def test_killed_and_shared_by_two(start, program, dataset, model):
    code, _ = stop_in_the_middle(start, dataset, model, signal.SIGKILL)
    assert code == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in shards_of(dataset, "*")}
    options = [argv(dataset, model, shards=2, shard=number) for number in range(2)]
    with start(*options[0]) as first, start(*options[1]) as second:
        outputs = [process.communicate(timeout=300) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], outputs
    assert len(shards_of(dataset)) == 3
    assert all(path.stat().st_mtime_ns == was for path, was in before.items())
    assert_complete(dataset, model)
    outcome = program(*argv(dataset, model))
    (folder,) = dataset.glob("embeddings_*")
    assert outcome.out.startswith(f"embedded 0 of {TOTAL} rows ({COUNTS}")
    assert outcome.out.endswith(f" in {folder}\n")


@pytest.mark.slow
def test_ctrl_c(start, program, dataset, model):
    code, err = stop_in_the_middle(start, dataset, model, signal.SIGINT)
    assert code == 130
    assert err.splitlines()[-1] == "stopped"
    there = len(shards_of(dataset))
    outcome = program(*argv(dataset, model))
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == 1
    rest = NUM_TRAIN - 1_024 * there + 12  # two splits come after that one
    assert outcome.out.startswith(f"embedded {rest:,} of {TOTAL} rows ({COUNTS}")
    assert_complete(dataset, model)


@pytest.mark.slow
def test_full_disk(program, small_disk, model):
    dataset, filler = save_data(small_disk / "data", 60), small_disk / "filler"
    use_up(filler)
    outcome = program(*argv(dataset, model))
    assert outcome.code == 1
    lines = [line for line in outcome.err.splitlines() if not line.startswith("embed ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: cannot write ")
    assert "embeddings_" in lines[0]
    filler.unlink()
    outcome = program(*argv(dataset, model))
    assert outcome.code == 0, outcome.err
    assert_complete(dataset, model)


@pytest.mark.slow
def test_stale_embeddings(program, tmp_path, model):
    dataset = save_data(tmp_path / "data", 6)
    embed(str(dataset), str(model), "data", 0, 1)
    save_data(dataset, 7)
    outcome = program(*argv(dataset, model))
    (folder,) = dataset.glob("embeddings_*")
    assert (outcome.code, outcome.out) == (1, "")
    assert len(outcome.err.splitlines()) == 1
    told = f"error: embeddings are {str(folder)!r}, expected those of data "
    assert outcome.err.startswith(told)
    assert "stale: delete the folder" in outcome.err


def test_a_share_says_what_is_missing(tmp_path, model):
    dataset = save_data(tmp_path / "data", 6)
    line = embed(str(dataset), str(model), "data", 0, 2)
    assert line.startswith("embedded 42 of 114 rows (text 24, image 60, audio_judge")
    assert line.endswith(", 72 rows are still missing")
    line = embed(str(dataset), str(model), "data", 1, 2)
    assert line.startswith("embedded 72 of 114 rows (")
    assert "missing" not in line
    assert_complete(dataset, model)


@pytest.mark.slow
def test_a_converted_encoder(tmp_path):
    """It hears the data set's clips at their rate, and sees pictures at its size."""
    dataset = save_data(tmp_path / "data", 6)
    weights = save_tiny(tmp_path / "imagebind")
    line = embed(str(dataset), weights, "data", 0, 1)
    assert line.startswith("embedded 114 of 114 rows (")
    config, _, params = load_named_encoder(weights)
    catalogue = load_catalogue(dataset)
    frontend = FrontendConfig(catalogue.sample_rate_hz)
    bank = read_bank(bank_cache(dataset, catalogue, config, frontend, params))
    waves = catalogue.clips["seen"][:2] / np.float32(32_768)
    expected = jax.jit(make_encoder(config, frontend).audio)(params, waves)
    # float32, in another compilation.
    np.testing.assert_allclose(bank.audio["seen"][:2], expected, atol=1e-5)
    for rows in (bank.text, bank.image):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=-1), 1.0, atol=1e-5)
    assert embed(str(dataset), weights, "data", 0, 1).startswith("embedded 0 of 114 ")


def test_what_cannot_be_embedded(tmp_path, model):
    dataset = save_data(tmp_path / "data", 6)
    with pytest.raises(ValueError, match="dataset is 'synthetic', expected a prepared"):
        embed("synthetic", str(model), str(tmp_path), 0, 1)
    with pytest.raises(ValueError, match="encoder is 'no', expected the folder of a t"):
        embed(str(dataset), "no", "data", 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"shards": 0}, "shards is 0, expected >= 1"),
        ({"shards": 2, "shard": 2}, "shard is 2, expected 0 to 1"),
        ({"shards": 2}, "shard is None, expected 0 to 1"),
    ],
)
def test_shares_that_do_not_exist(program, more, told):
    outcome = program(*argv("instruments", "runs/no", **more))
    assert (outcome.code, outcome.err) == (1, f"error: {told}\n")
