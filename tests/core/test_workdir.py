"""Workdirs: of one configuration, and for one run at a time."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from marssep_jax.checkpoint import open_workdir
from marssep_jax.checkpoint.workdir import differences
from tests.support.disks import mounted, read_only

CONFIG = {"update": {"clip_eps": 0.2, "patch": (8, 8)}, "seed": 0}


def test_workdir_remembers_its_config(tmp_path):
    with open_workdir(tmp_path / "run", CONFIG, {"revision": "abc"}):
        pass
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record == {"config": json.loads(json.dumps(CONFIG)), "revision": "abc"}
    with open_workdir(tmp_path / "run", CONFIG, {"revision": "later"}) as workdir:
        assert not workdir.is_complete()
        assert workdir.completed_step() is None
        workdir.complete({"step": 3})
        assert workdir.is_complete()
        assert workdir.completed_step() == 3
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == record


def refused(path, config, message):
    with pytest.raises(ValueError, match=message) as error, open_workdir(path, config):
        pass
    assert "\n" not in str(error.value)


def test_workdir_of_another_config_is_refused(tmp_path):
    with open_workdir(tmp_path / "run", CONFIG):
        pass
    other = {"update": {"clip_eps": 0.1, "patch": (8, 8)}, "seed": 0}
    refused(
        tmp_path / "run",
        other,
        r"config.update.clip_eps is 0.1, expected 0.2 as .*/run",
    )
    refused(
        tmp_path / "run",
        {"update": {"patch": (4, 8)}, "seed": 0},
        r"config.update.clip_eps is 'absent', expected 0.2 .*, and 1 more: use another",
    )


@pytest.mark.parametrize("saved", [False, True])
def test_settings_that_do_not_work_do_not_bind(tmp_path, saved):
    """The mended command must start; unless something was learnt with them."""

    def fail(run):
        if saved:
            run.store.save(1, {"x": np.ones(1)}, CONFIG, {})
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"), open_workdir(tmp_path, CONFIG) as run:
        fail(run)
    other = CONFIG | {"seed": 1}
    if saved:
        refused(tmp_path, other, "config.seed is 1, expected 0")
    else:
        with open_workdir(tmp_path, other) as run:
            assert run.config["seed"] == 1
    with open_workdir(tmp_path, CONFIG if saved else other):
        pass


def test_differences_are_listed_by_dotted_key():
    before = {"a": {"b": 1, "c": [1, 2]}, "d": 0}
    assert differences(before, before) == []
    assert differences(before, {"a": {"b": 2, "c": [1, 2]}, "e": 0}) == [
        ("a.b", 1, 2),
        ("d", 0, "absent"),
        ("e", "absent", 0),
    ]


def test_bad_workdirs(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file", CONFIG, "expected a folder")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text("{")
    refused(tmp_path / "odd", CONFIG, "expected a readable config.json in it")
    (tmp_path / "bare" / "checkpoints").mkdir(parents=True)
    refused(tmp_path / "bare", CONFIG, "expected a config.json in it")


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_second_run_is_refused_until_the_first_is_gone(tmp_path):
    (tmp_path / "run").mkdir()
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "run" / ".lock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        refused(tmp_path / "run", CONFIG, "expected one that no other run is using")
        other.kill()  # a killed run leaves no lock behind
    with open_workdir(tmp_path / "run", CONFIG):
        refused(tmp_path / "run", CONFIG, "expected one that no other run is using")
    assert sorted(os.listdir(tmp_path / "run")) == [".lock", "config.json"]


def test_read_only_disk(tmp_path):
    with mounted(tmp_path / "disk", "1m") as disk:
        with open_workdir(disk / "run", CONFIG):
            pass
        read_only(disk)
        for name in ("run", "new"):
            expected = f"workdir is '{disk / name}', expected a folder that can be w"
            with (
                pytest.raises(OSError, match=re.escape(expected)) as error,
                open_workdir(disk / name, CONFIG),
            ):
                pass
            assert str(error.value).endswith("written (Read-only file system)")
