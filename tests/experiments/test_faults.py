"""Bad input of the programs, each told in one line, with nothing written."""

import fcntl
import shutil

import pytest

from tests.support.training_runs import CONFIG, LONG, assert_one_line

pytestmark = pytest.mark.slow


def files_in(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in paths}


@pytest.fixture
def refused(program, tmp_path):
    """Return a function that runs a program and checks how it was refused."""

    def run(name, argv, *parts):
        before = files_in(tmp_path)
        outcome = program(f"experiments.{name}", *argv)
        assert_one_line(outcome, *parts)
        assert files_in(tmp_path) == before

    return run


@pytest.mark.parametrize(
    ("flag", "parts"),
    [
        ("config.training.nonsense=1", "--config.training.nonsense is unknown, expect"),
        ("config.nonsense=1", "--config.nonsense is unknown, expected a key"),
        ("config.training.batch_size=many", "--config.training.batch_size=many: "),
        ("config.training.batch_size=0", "config.training.batch_size is 0, expected >"),
        ("config.separator.widths=8,x", "config.separator.widths is '8,x', expected a"),
        ("config.stage=play", "config.stage is 'play', expected supervised or policy"),
        ("config.stage=policy", "config.start.separator is '', expected the supervis"),
        ("nonsense=1", "Unknown command line flag 'nonsense'"),
    ],
)
def test_bad_settings(refused, tmp_path, flag, parts):
    refused("train", [CONFIG, f"--workdir={tmp_path / 'run'}", f"--{flag}"], parts)


def test_missing_config(refused, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"
    refused("train", [workdir], "--config")
    expected = "config is 'no.py', expected a Python file"
    refused("train", ["--config=no.py", workdir], expected)
    refused("quickstart", ["--config=no.py", workdir], expected)


def test_missing_workdir(refused):
    refused("train", [CONFIG], "--workdir")


def test_an_argument_that_is_no_flag(refused, tmp_path):
    argv = [CONFIG, f"--workdir={tmp_path / 'run'}", "runs"]
    refused("train", argv, "argument is 'runs', expected flags only")


@pytest.mark.parametrize("name", ["train", "quickstart"])
def test_workdir_that_is_a_file(refused, tmp_path, name):
    place = tmp_path / "file"
    place.write_text("text")
    expected = f"workdir is {str(place)!r}, expected a folder"
    refused(name, [CONFIG, f"--workdir={place}"], expected)


def test_workdir_under_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("text")
    place = str(tmp_path / "file" / "run")
    expected = f"workdir is {place!r}, expected a folder"
    refused("train", [CONFIG, f"--workdir={place}"], expected)


def test_workdir_of_another_config(trained, program):
    before = files_in(trained)
    argv = [*LONG, f"--workdir={trained}", "--config.training.batch_size=3"]
    outcome = program("experiments.train", *argv)
    expected = f"config.training.batch_size is 3, expected 4 as {trained} was started"
    assert_one_line(outcome, expected, "use another workdir")
    assert files_in(trained) == before


def test_workdir_in_use(trained, program, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    before = files_in(workdir)
    with open(workdir / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = program("experiments.train", *LONG, f"--workdir={workdir}")
    expected = f"workdir is {str(workdir)!r}, expected one that no other run is using"
    assert_one_line(outcome, expected)
    assert files_in(workdir) == before


def test_start_that_is_no_model(refused, trained, tmp_path):
    (tmp_path / "empty").mkdir()
    unfinished = tmp_path / "unfinished"
    shutil.copytree(trained / "checkpoints", unfinished / "checkpoints")
    workdir = f"--workdir={tmp_path / 'run'}"
    reasons = {
        "no": "no such folder",
        "empty": "it holds no bundle.json",
        "unfinished": "its training has not finished",
    }
    for name, reason in reasons.items():
        place = str(tmp_path / name)
        expected = f"{place!r}, expected the folder of a trained model ({reason})"
        argv = [CONFIG, workdir, f"--config.start.encoder={place}"]
        refused("train", argv, "config.start.encoder", expected)


@pytest.mark.parametrize("name", ["bundle.json", "parameters.npz"])
def test_start_that_is_damaged(refused, trained, tmp_path, name):
    model = tmp_path / "model"
    shutil.copytree(trained / "model", model)
    raw = (model / name).read_bytes()
    (model / name).write_bytes(raw[: len(raw) // 2])
    argv = [f"{CONFIG}:policy", f"--workdir={tmp_path / 'run'}"]
    argv.append(f"--config.start.separator={model}")
    expected = f"{str(model)!r}, expected the folder of a trained model"
    refused("train", argv, "config.start.separator", expected)


def test_start_of_another_shape(refused, trained, tmp_path):
    argv = [f"{CONFIG}:policy", f"--workdir={tmp_path / 'run'}"]
    argv += [f"--config.start.separator={trained}", "--config.separator.num_channels=4"]
    expected = (
        "config.separator.num_channels is 4, expected 8 as config.start.separator"
    )
    refused("train", argv, expected)


def test_unknown_reward(program, trained, tmp_path):
    argv = [f"{CONFIG}:policy", f"--workdir={tmp_path / 'run'}"]
    argv += [f"--config.start.separator={trained}", "--config.rl.reward=smell"]
    outcome = program("experiments.train", *argv)
    assert_one_line(outcome, "config.rl.reward is 'smell', expected 'cosine', 'contra")
    assert not any((tmp_path / "run").glob("*.json"))


def test_data_that_was_not_prepared(refused, tmp_path):
    argv = [CONFIG, f"--workdir={tmp_path / 'run'}", "--config.data.dataset=music"]
    argv.append(f"--config.data.data_dir={tmp_path}")
    expected = "dataset is 'music', expected a prepared folder or a name under"
    refused("train", argv, expected, str(tmp_path))


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (
            ["--queries=smell"],
            "queries is 'smell', expected some of text, audio, image",
        ),
        (["--queries=text,smell"], "queries is 'text,smell', expected some of text"),
        (["--queries="], "queries is '', expected some of text, audio, image, comp"),
        (["--json=no/such.json"], "--json is 'no/such.json', expected a file in an ex"),
        (["--checkpoint=no"], "'no', expected the folder of a trained model (no such"),
        (["--compare=no"], "'no', expected the folder of a trained model (no such"),
        (["--manifest=no.json"], "manifest is 'no.json', expected a readable JSON"),
    ],
)
def test_bad_evaluations(refused, trained, argv, parts):
    given = [f"--checkpoint={trained}", "--manifest=setup.cfg"]
    refused("evaluate", [*given, *argv], parts)


def test_bad_manifests(refused, trained, tmp_path):
    reasons = {
        "": "expected a readable JSON file",
        '{"mixtures': "expected a readable JSON file",
        '{"other": 1}': "expected a list of mixtures in it",
        "[1, 2]": "expected a list of mixtures in it",
    }
    path = tmp_path / "manifest.json"
    for text, reason in reasons.items():
        path.write_text(text)
        argv = [f"--checkpoint={trained}", f"--manifest={path}"]
        refused("evaluate", argv, f"manifest is {str(path)!r}, {reason}")


def test_manifest_without_its_data_set(refused, trained, tmp_path):
    (tmp_path / "manifest.json").write_text('{"mixtures": []}')
    argv = [f"--checkpoint={trained}", f"--manifest={tmp_path / 'manifest.json'}"]
    refused("evaluate", argv, f"{str(tmp_path)!r}, expected a prepared data set")
