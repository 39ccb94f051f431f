"""What happens to a run: signals, bad numbers, lost checkpoints, a clock that jumps."""

import json
import os
import shutil
import signal
import time

import jax
import jax.numpy as jnp
import pytest

from marssep_jax import interrupts
from marssep_jax.checkpoint import CheckpointStore
from marssep_jax.training import EarlyStop
from tests.core.test_training import (
    UPDATE,
    Kill,
    batches,
    lines,
    same,
    train,
    without_time,
)


@pytest.fixture
def handlers():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    interrupts.install()
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    interrupts.install()
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def terminated(number, times=1):
    """Batches; with the fetch of one comes SIGTERM, once or several times."""

    def stream(first):
        for index, batch in enumerate(batches(first), first):
            if index == number:
                for _ in range(times):
                    os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    return stream


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [0, 1, 3, 6, 8, 11])
def test_terminated_run_has_saved_the_step_it_had_reached(tmp_path, number):
    whole = train(tmp_path / "whole")
    with pytest.raises(SystemExit) as caught:
        train(tmp_path / "cut", stream=terminated(number))
    assert caught.value.code == 143
    with CheckpointStore(tmp_path / "cut/checkpoints") as store:
        # Batch n is fetched before step n has ended; the signal waits for that.
        assert store.steps()[-1] == number
    resumed = train(tmp_path / "cut")
    same(resumed, whole)
    assert without_time(lines(tmp_path / "cut")) == without_time(whole.rows)


@pytest.mark.usefixtures("handlers")
def test_who_asks_again_does_not_disturb_the_saving(tmp_path, monkeypatch):
    """The second signal comes while the state of the first is being written."""
    real = CheckpointStore.save

    def save(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGTERM)

    whole = train(tmp_path / "whole")
    monkeypatch.setattr(CheckpointStore, "save", save)
    with pytest.raises(SystemExit) as caught:
        train(tmp_path / "cut", stream=terminated(6, times=2), save_every=0)
    monkeypatch.undo()
    assert caught.value.code == 143
    with CheckpointStore(tmp_path / "cut/checkpoints") as store:
        assert store.steps() == [6]
    interrupts.install()
    same(train(tmp_path / "cut", save_every=0), whole)


def scores(state):
    """An evaluation of two batches."""
    interrupts.check()
    return {"eval/si_sdri_db": float(state.seen)}


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("at", [0, 4, 12])
def test_terminated_while_evaluating(tmp_path, at):
    """The state is saved before its row is there: the row must come, once."""
    options = {"eval_every": 4, "early_stop": EarlyStop(patience=9)}

    def stopped(state):
        if int(state.step) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return scores(state)

    whole = train(tmp_path / "whole", evaluate=scores, **options)
    with pytest.raises(SystemExit):
        train(tmp_path / "cut", evaluate=stopped, **options)
    assert at not in [row["step"] for row in read(tmp_path / "cut" / "metrics.jsonl")]
    with CheckpointStore(tmp_path / "cut/checkpoints") as store:
        assert store.steps()[-1] == at
    interrupts.install()
    for _ in range(2):  # the row is there once, however often the step is met again
        with pytest.raises(Kill):
            train(tmp_path / "cut", evaluate=scores, progress=KillAt(at), **options)
    resumed = train(tmp_path / "cut", evaluate=scores, **options)
    same(resumed, whole)
    assert (resumed.best, resumed.step) == (whole.best, whole.step)
    assert without_time(lines(tmp_path / "cut")) == without_time(whole.rows)


def read(path):
    return (
        [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []
    )


class KillAt:
    def __init__(self, step):
        self.step = step

    def __call__(self, step, num_steps, row):
        if step == self.step:
            raise Kill

    def close(self):
        """Hear of the end."""


@jax.jit
def guarded(state, batch):
    """An update that skips what is negative."""
    new, metrics = UPDATE(state, batch)
    bad = batch < 0
    loss = jnp.where(bad, jnp.nan, metrics["toy/loss"])
    state = new.replace(seen=jnp.where(bad, state.seen, new.seen))
    return state, {"toy/loss": loss, "update/skipped": bad.astype(jnp.float32)}


def with_bad(*numbers, stop_at=None):
    def stream(first):
        for index, batch in enumerate(batches(first, stop_at), first):
            yield -batch - 1 if index in numbers else batch

    return stream


def test_skipped_updates_are_counted_and_their_batches_kept(tmp_path):
    options = {
        "update": guarded,
        "stream": with_bad(2, 3, 7),
        "describe": lambda number: {"clip_id": [number * 10]},
        "max_skipped": 3,
    }
    result = train(tmp_path, **options)
    assert [row["update/skipped_total"] for row in result.rows] == [0, 2, 2, 3, 3, 3]
    assert result.rows[1]["toy/loss"] is None
    kept = read(tmp_path / "skipped.jsonl")
    assert [(row["step"], row["batch"], row["clip_id"]) for row in kept] == [
        (3, 2, [20]),
        (4, 3, [30]),
        (8, 7, [70]),
    ]
    assert [row["in_a_row"] for row in kept] == [1, 2, 1]
    assert {tuple(row["not_finite"]) for row in kept} == {("toy/loss",)}


@pytest.mark.parametrize("stop_at", [5, 9])
def test_counts_go_on_after_a_kill(tmp_path, stop_at):
    bad = (3, 4, 6, 7)
    whole = train(tmp_path / "whole", update=guarded, stream=with_bad(*bad))
    with pytest.raises(Kill):
        train(tmp_path / "cut", update=guarded, stream=with_bad(*bad, stop_at=stop_at))
    resumed = train(tmp_path / "cut", update=guarded, stream=with_bad(*bad))
    same(resumed, whole)
    rows = [read(tmp_path / name / "skipped.jsonl") for name in ("cut", "whole")]
    assert rows[0] == rows[1]
    assert [row["in_a_row"] for row in rows[0]] == [1, 2, 1, 2]


@pytest.mark.parametrize("log_every", [1, 5])
def test_too_many_in_a_row_end_the_run(tmp_path, log_every):
    options = {"update": guarded, "max_skipped": 3, "log_every": log_every}
    with pytest.raises(ValueError, match="in a row that were skipped") as caught:
        train(tmp_path, stream=with_bad(1, 4, 5, 6, 7), **options)
    assert str(caught.value) == (
        "toy/loss is not finite at step 7, the last of 3 updates in a row that were "
        "skipped, expected fewer than 3: a smaller learning rate or more clipping may "
        f"help; their batches are in {tmp_path / 'skipped.jsonl'}"
    )
    train(stream=with_bad(1, 4, 5, 6, 7), **options | {"max_skipped": 0})


def test_checkpoints_that_are_gone_are_missed(tmp_path, caplog):
    whole = train(tmp_path / "whole", num_steps=16)
    shutil.copytree(tmp_path / "whole", tmp_path / "some")
    shutil.copytree(tmp_path / "whole", tmp_path / "none")
    shutil.rmtree(tmp_path / "some/checkpoints/16")
    same(train(tmp_path / "some", num_steps=16), whole)
    assert "rows of toy reach step 16" not in caplog.text  # as after a kill
    shutil.rmtree(tmp_path / "none/checkpoints")
    same(train(tmp_path / "none", num_steps=16), whole)
    assert "newest checkpoint in" in caplog.text
    assert "is of step 0: going on from there" in caplog.text
    for name in ("some", "none"):
        assert without_time(lines(tmp_path / name)) == without_time(whole.rows)


def test_a_clock_that_jumps(tmp_path, monkeypatch):
    """Set back by a day, then forward by a year: no order hangs on it."""
    whole = train(tmp_path / "whole", num_steps=16)
    real, real_ns, shift = time.time, time.time_ns, [0]

    def stream(first):
        for number, batch in enumerate(batches(first), first):
            shift[0] = {5: -86_400, 9: 31_536_000}.get(number, shift[0])
            if number == 14 and first == 0:
                raise Kill
            yield batch

    monkeypatch.setattr(time, "time", lambda: real() + shift[0])
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + shift[0] * 10**9)
    with pytest.raises(Kill):
        train(tmp_path / "cut", num_steps=16, stream=stream, max_wall_s=3_600.0)
    with CheckpointStore(tmp_path / "cut/checkpoints") as store:
        assert store.steps() == [8, 12]
    shift[0] = -86_400
    resumed = train(tmp_path / "cut", num_steps=16, max_wall_s=3_600.0)
    same(resumed, whole)
    times = [row["wall_s"] for row in resumed.rows]
    assert times == sorted(times)
    assert 0 < times[-1] < 3_600


def test_best_is_saved_without_patience(tmp_path):
    def evaluate(state):
        return {"eval/si_sdri_db": {4: 2.0}.get(int(state.step), 1.0)}

    train(tmp_path, evaluate=evaluate, eval_every=2, save_every=5)
    with CheckpointStore(tmp_path / "checkpoints") as store:
        assert store.steps() == [4, 10, 12]
