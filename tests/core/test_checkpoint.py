"""Checkpoints: exact, in spite of damage."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from marssep_jax.checkpoint import CheckpointStore
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


def test_those_of_a_period_stay(tmp_path):
    with CheckpointStore(tmp_path / "checkpoints", keep=1, keep_every=3) as store:
        for step in range(1, 9):
            save(store, step, keep_step=4)
        store.wait()
        assert store.steps() == [3, 4, 6, 8]


def test_origin_is_kept_and_may_be_missing(tmp_path):
    origin = {"revision": "abc", "versions": {"jax": "1"}}
    place = tmp_path / "checkpoints"
    with CheckpointStore(place, provenance=origin) as store:
        save(store, 1)
        store.wait()
        assert store.restore(1, make_state()).provenance == origin
    shutil.rmtree(place / "1" / "provenance")  # as earlier versions wrote it
    with CheckpointStore(place) as store:
        assert store.restore(1, make_state()).provenance == {}


def spread(state, count):
    """Cut the kernel over some devices, and copy the rest to each of them."""
    mesh = jax.make_mesh((count,), ("data",), devices=jax.devices()[:count])

    def place(leaf):
        rows = count if leaf.ndim == 2 and not leaf.shape[0] % count else 0
        axes = jax.sharding.PartitionSpec(*(["data"] if rows else []))
        return jax.device_put(leaf, jax.sharding.NamedSharding(mesh, axes))

    return jax.tree.map(place, state)


ELSEWHERE = """
import sys, jax
from tests.core.test_checkpoint import CheckpointStore, make_state, spread
count = int(sys.argv[2])
assert len(jax.devices()) == count
with CheckpointStore(sys.argv[1]) as store:
    found = store.restore_latest(spread(make_state(width=4), count))
    assert all(len(x.devices()) == count for x in jax.tree.leaves(found.state))
    store.save(found.step + 1, found.state, {}, {})
"""


@pytest.mark.parametrize("count", [1, 8])
def test_another_number_of_devices(tmp_path, count):
    """Saved on four, restored and saved in a process of other ones, and back on two."""
    state = make_state(3, width=4)
    state = state.replace(params=jax.tree.map(jnp.sin, state.params))
    with CheckpointStore(tmp_path) as store:
        store.save(1, spread(state, 4), {}, {})
    code = f"import jax; jax.config.update('jax_num_cpu_devices', {count})"
    argv = [sys.executable, "-c", code + ELSEWHERE, str(tmp_path), str(count)]
    subprocess.run(argv, check=True, cwd=Path(__file__).parents[2])
    with CheckpointStore(tmp_path) as store:
        found = store.restore_latest(spread(make_state(width=4), 2))
    assert found.step == 2
    same(found.state, state)


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
