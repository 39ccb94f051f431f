"""Checkpoints and workdirs: exact, in spite of damage, and for one run only."""

import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marssep_jax.checkpoint import CheckpointStore, open_workdir
from marssep_jax.checkpoint.workdir import differences
from marssep_jax.state import create_state, snapshot

CONFIG = {"update": {"clip_eps": 0.2, "patch": (8, 8)}, "seed": 0}


def make_state(seed=0, width=3):
    params = {"net": {"kernel": jnp.full((2, width), float(seed)), "bias": jnp.ones(1)}}
    state = create_state(jax.random.key(seed), params, {}, optax.adamw(1e-3))
    return snapshot(state) if seed else state.replace(old_params=params)


def save(store, step, **options):
    state = make_state(step).replace(step=jnp.asarray(step))
    store.save(step, state, CONFIG, {"step": step, "wall_s": 0.1}, **options)


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.fixture
def store(tmp_path):
    with CheckpointStore(tmp_path / "checkpoints") as store:
        yield store


def test_state_comes_back_exactly(tmp_path, store):
    save(store, 7)
    store.close()
    with CheckpointStore(tmp_path / "checkpoints") as again:
        found = again.restore_latest(make_state())
    same(found.state, make_state(7).replace(step=jnp.asarray(7)))
    # The key is a key: it draws the same numbers.
    assert jax.random.uniform(found.state.key) == jax.random.uniform(jax.random.key(7))
    assert found.position == {"step": 7, "wall_s": 0.1}
    assert found.config == json.loads(json.dumps(CONFIG))


def test_saved_state_may_be_donated_at_once(store):
    """The copy must have been taken when save returns."""
    bump = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    tree = {"x": jnp.zeros(300_000)}
    for step in range(1, 4):
        tree = bump(tree)
        store.save(step, tree, {}, {})
        for _ in range(5):
            tree = bump(tree)
    for step, value in ((2, 7.0), (3, 13.0)):
        found = store.restore(step, tree).state["x"]
        assert (found == value).all()


def test_latest_and_best_stay_also_after_a_restart(tmp_path, store):
    for step in (1, 2, 3):
        save(store, step, keep_step=1)
    assert store.steps() == [1, 2, 3]
    store.close()
    with CheckpointStore(tmp_path / "checkpoints") as again:
        for step in (4, 5):
            save(again, step, keep_step=1)
        assert again.steps() == [1, 4, 5]
        save(again, 6, keep_step=6)
        again.wait()
        assert again.steps() == [5, 6]


def test_saving_a_step_twice_is_no_error(store):
    save(store, 1)
    save(store, 1)
    assert store.steps() == [1]


def test_nothing_there(tmp_path):
    with CheckpointStore(tmp_path / "none") as store:
        assert store.restore_latest(make_state()) is None
    assert not (tmp_path / "none").exists()


def largest_file(folder):
    files = [p for p in folder.rglob("*") if p.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def damage(folder, how):
    if how == "state gone":
        shutil.rmtree(folder / "state")
        return
    if how == "position gone":
        shutil.rmtree(folder / "position")
        return
    path = largest_file(folder / "state" / "d")  # tiny arrays live in the index
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2] if how == "cut" else bytes(len(raw)))


@pytest.mark.parametrize("how", ["cut", "zeros", "state gone", "position gone"])
def test_damaged_newest_falls_back_with_a_warning(tmp_path, store, caplog, how):
    for step in (1, 2, 3):
        save(store, step)
    store.close()
    damage(tmp_path / "checkpoints" / "3", how)
    found = store.restore_latest(make_state())
    assert found.step == 2
    assert int(found.state.step) == 2
    assert "checkpoints/3 cannot be read" in caplog.text
    save(store, 3)  # the number is free again
    store.wait()
    assert store.restore_latest(make_state()).step == 3


def test_all_damaged_is_told_and_nothing_moved(tmp_path, store):
    for step in (1, 2):
        save(store, step)
    store.close()
    for step in (1, 2):
        damage(tmp_path / "checkpoints" / str(step), "zeros")
    with pytest.raises(ValueError, match="expected a readable state of this") as error:
        store.restore_latest(make_state())
    assert "\n" not in str(error.value)
    assert str(tmp_path / "checkpoints") in str(error.value)
    assert store.steps() == [1, 2]


@pytest.mark.parametrize(
    "template", [make_state(width=5), {"other": jnp.ones(3)}], ids=["shape", "tree"]
)
def test_state_of_another_model_is_refused(tmp_path, store, template):
    save(store, 1)
    store.wait()
    with pytest.raises(ValueError, match="expected a readable state of this run"):
        store.restore_latest(template)
    assert store.steps() == [1]


def test_unwritable_place_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("x")
    store = CheckpointStore(tmp_path / "file" / "checkpoints")
    with pytest.raises(OSError, match="file"):
        save(store, 1)


def test_workdir_remembers_its_config(tmp_path):
    with open_workdir(tmp_path / "run", CONFIG, {"revision": "abc"}):
        pass
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record == {"config": json.loads(json.dumps(CONFIG)), "revision": "abc"}
    with open_workdir(tmp_path / "run", CONFIG, {"revision": "later"}) as workdir:
        assert not workdir.is_complete()
        workdir.complete({"step": 3})
        assert workdir.is_complete()
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
            save(run.store, 1)
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
