"""Bad input, Ctrl-C, kills and full disks, each told in one line and survived."""

import fcntl
import json
import resource
import shutil
import signal
import time

import pytest

from tests.support.disks import use_up

pytestmark = pytest.mark.slow

CONFIG = "--config=experiments/configs/debug.py"
# Long enough to be stopped in the middle; nothing is compiled but the step.
LONG = (
    CONFIG,
    "--config.data.num_validation=0",
    "--config.training.num_steps=400",
    "--config.training.log_every=5",
    "--config.training.save_every=20",
)


def files_in(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in paths}


def assert_one_line(outcome, *parts):
    assert outcome.code == 1
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]
    assert "Traceback" not in lines[0]


@pytest.fixture
def refused(program, tmp_path):
    """Return a function that runs a program and checks how it was refused."""

    def run(name, argv, *parts):
        before = files_in(tmp_path)
        outcome = program(f"experiments.{name}", *argv)
        assert_one_line(outcome, *parts)
        assert files_in(tmp_path) == before

    return run


@pytest.fixture(scope="session")
def trained(program, once):
    """Return the workdir of a training that nobody disturbed."""

    def fill(folder):
        outcome = program("experiments.train", *LONG, f"--workdir={folder}")
        assert outcome.code == 0, outcome.err

    return once("trained", fill)


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


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [
        {k: v for k, v in row.items() if not k.startswith(("wall_s", "run/"))}
        for row in found
    ]


def wait_for_step(process, workdir, step):
    """Wait until the row of a step is there and the checkpoint before it, too."""
    deadline = time.monotonic() + 120
    log, saved = workdir / "metrics.jsonl", workdir / "checkpoints" / "20"
    while not (log.exists() and saved.exists() and rows(workdir)[-1]["step"] >= step):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_goes_on_as_undisturbed(program, workdir, trained):
    assert not (workdir / "COMPLETED").exists()
    assert not (workdir / "model").exists()
    outcome = program("experiments.train", *LONG, f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    # It went on: the first step of this session is not the first of the run.
    first = outcome.err.splitlines()[0]
    assert first.startswith("supervised ")
    assert int(first.split()[1].split("/")[0]) > 20
    model = "model/parameters.npz"
    assert (workdir / model).read_bytes() == (trained / model).read_bytes()
    assert rows(workdir) == rows(trained)
    assert (workdir / "COMPLETED").exists()


@pytest.mark.parametrize(
    ("number", "code", "last"),
    [
        (signal.SIGINT, 130, "stopped"),
        (signal.SIGTERM, 143, None),
        (signal.SIGKILL, -signal.SIGKILL, None),
    ],
)
def test_stopped_in_the_middle(start, program, trained, tmp_path, number, code, last):
    workdir = tmp_path / "run"
    with start("experiments.train", *LONG, f"--workdir={workdir}") as process:
        wait_for_step(process, workdir, 40)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    lines = [line for line in err.splitlines() if not line.startswith("supervised ")]
    assert lines == ([last] if last else [])
    assert_goes_on_as_undisturbed(program, workdir, trained)


def assert_told_of_no_room(process, workdir):
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    lines = [line for line in err.splitlines() if not line.startswith("supervised ")]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "cannot write " in lines[0]
    assert str(workdir) in lines[0]
    assert "Traceback" not in err


def test_full_disk(start, program, trained, small_disk):
    """Somebody else fills the disk; once there is room again, the run goes on."""
    workdir, filler = small_disk / "run", small_disk / "filler"
    with start("experiments.train", *LONG, f"--workdir={workdir}") as process:
        wait_for_step(process, workdir, 40)
        use_up(filler)
        assert_told_of_no_room(process, workdir)
    filler.unlink()
    assert_goes_on_as_undisturbed(program, workdir, trained)


def test_quota(start, program, trained, tmp_path):
    """No file may grow any more: writes fail half-way, with EFBIG."""
    workdir = tmp_path / "run"
    with start("experiments.train", *LONG, f"--workdir={workdir}") as process:
        wait_for_step(process, workdir, 40)
        size = (workdir / "metrics.jsonl").stat().st_size
        limits = (size, resource.RLIM_INFINITY)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        assert_told_of_no_room(process, workdir)
    assert_goes_on_as_undisturbed(program, workdir, trained)


def test_damaged_checkpoint(program, trained, tmp_path):
    """The newest state is unreadable: the run goes on from the one before."""
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    shutil.rmtree(workdir / "checkpoints" / str(steps[-1]) / "state")
    (workdir / "COMPLETED").unlink()
    shutil.rmtree(workdir / "model")
    outcome = program("experiments.train", *LONG, f"--workdir={workdir}")
    assert outcome.code == 0, outcome.err
    assert f"going on from step {steps[-2]}" in outcome.err
    model = "model/parameters.npz"
    assert (workdir / model).read_bytes() == (trained / model).read_bytes()
    assert rows(workdir) == rows(trained)
