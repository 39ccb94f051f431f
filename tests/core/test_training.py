"""The host loop, driven by a state that records which batches it has seen."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from marssep_jax.checkpoint import CheckpointStore
from marssep_jax.metric_log import MetricLog
from marssep_jax.training import Best, EarlyStop, run


@struct.dataclass
class State:
    """``seen`` chains batch and key, so order, gaps and repeats all show."""

    step: jax.Array
    seen: jax.Array
    key: jax.Array


def start():
    return State(jnp.zeros((), jnp.int32), jnp.zeros(()), jax.random.key(3))


def step(state, batch):
    noise = jax.random.uniform(jax.random.fold_in(state.key, state.step))
    seen = jnp.sin(3 * state.seen + batch + noise)
    state = state.replace(step=state.step + 1, seen=seen)
    return state, {"toy/loss": seen, "toy/batch": batch}


UPDATE = jax.jit(step, donate_argnums=0)


class Kill(BaseException):
    """As sudden as a signal."""


def batches(first, stop_at=None):
    number = first
    while True:
        if number == stop_at:
            raise Kill
        yield jnp.asarray(float(number))
        number += 1


def train(folder=None, update=UPDATE, stream=batches, **options):
    options = {"num_steps": 12, "log_every": 2, "save_every": 4} | options
    store = CheckpointStore(folder / "checkpoints") if folder else None
    log = MetricLog(folder, "toy", tensorboard=False) if folder else None
    try:
        return run(
            state=start(),
            update=update,
            batches=stream,
            store=store,
            log=log,
            **options,
        )
    finally:
        if store is not None:
            store.close()


def lines(folder):
    return [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]


def without_time(rows):
    """Leave out what two runs of equal numbers may differ in."""
    costs = ("wall_s", "run/")
    return [{k: v for k, v in row.items() if not k.startswith(costs)} for row in rows]


def same(a, b):
    assert float(a.state.seen) == float(b.state.seen)
    assert int(a.state.step) == int(b.state.step)
    assert (jax.random.key_data(a.state.key) == jax.random.key_data(b.state.key)).all()
    assert without_time(a.rows) == without_time(b.rows)


def test_batches_come_in_order_and_rows_at_their_steps(tmp_path):
    result = train(tmp_path)
    assert [row["step"] for row in result.rows] == [2, 4, 6, 8, 10, 12]
    assert [row["toy/batch"] for row in result.rows] == [1, 3, 5, 7, 9, 11]
    assert result.reason == "steps"
    assert result.step == 12
    assert lines(tmp_path) == result.rows
    assert {row["stage"] for row in result.rows} == {"toy"}


def test_last_step_is_logged_whatever_the_period():
    result = train(num_steps=5, log_every=3)
    assert [row["step"] for row in result.rows] == [3, 5]


@pytest.mark.parametrize("stop_at", [3, 4, 7, 9, 11])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, stop_at):
    whole = train(tmp_path / "whole")
    with pytest.raises(Kill):
        train(tmp_path / "cut", stream=lambda first: batches(first, stop_at))
    resumed = train(tmp_path / "cut")
    same(resumed, whole)
    assert without_time(lines(tmp_path / "cut")) == without_time(whole.rows)
    times = [row["wall_s"] for row in resumed.rows]
    assert times == sorted(times)


def test_resumes_from_the_step_before_a_damaged_one(tmp_path, caplog):
    whole = train(tmp_path / "whole")
    with pytest.raises(Kill):
        train(tmp_path / "cut", stream=lambda first: batches(first, 10))
    assert sorted(p.name for p in (tmp_path / "cut/checkpoints").iterdir()) == [
        "4",
        "8",
    ]
    shutil.rmtree(tmp_path / "cut/checkpoints/8/state")
    same(train(tmp_path / "cut"), whole)
    assert "going on from step 4" in caplog.text
    assert (tmp_path / "cut/damaged_checkpoint_8").is_dir()


def test_a_run_that_ended_returns_its_result_without_a_step(tmp_path):
    first = train(tmp_path)
    again = train(tmp_path, update=None, stream=None)
    same(again, first)
    assert again.wall_s == first.wall_s


def scored(*scores):
    """Evaluate states by step: scores[i] after 2 i steps."""

    def evaluate(state):
        return {"eval/si_sdri_db": scores[int(state.step) // 2]}

    return evaluate


STOP = {"eval_every": 2, "early_stop": EarlyStop(patience=2), "save_every": 0}


@pytest.mark.parametrize("on_disk", [False, True])
def test_early_stop_returns_the_best_state(tmp_path, on_disk):
    folder = tmp_path if on_disk else None
    evaluate = scored(1.0, 2.0, 3.0, 2.5, 2.9, 9.0, 9.0)
    result = train(folder, evaluate=evaluate, **STOP)
    assert result.reason == "early_stop"
    assert result.best == Best(4, 3.0)
    assert result.step == 8
    assert int(result.state.step) == 4
    assert float(result.state.seen) == float(train(num_steps=4).state.seen)
    assert [row["step"] for row in result.rows] == [0, 2, 4, 6, 8]
    if on_disk:
        again = train(folder, update=None, stream=None, evaluate=evaluate, **STOP)
        same(again, result)


def test_early_stop_keeps_the_start_when_training_only_harms():
    result = train(evaluate=scored(5.0, 4.0, 3.0, 2.0), **STOP)
    assert result.best == Best(0, 5.0)
    assert int(result.state.step) == 0


def test_gain_below_min_delta_counts_as_none(tmp_path):
    """Also on disk, where the checkpoint with the highest score is kept."""
    rule = STOP | {"early_stop": EarlyStop(patience=3, min_delta=1.0)}
    result = train(
        tmp_path, evaluate=scored(1.0, 3.0, 3.5, 3.9, 3.9), **rule | {"save_every": 2}
    )
    assert result.best == Best(2, 3.0)
    assert int(result.state.step) == 2


@pytest.mark.parametrize("stop_at", [1, 4, 6, 8])
def test_patience_goes_on_after_a_kill(tmp_path, stop_at):
    evaluate = scored(1.0, 2.0, 3.0, 2.5, 2.9, 9.0, 9.0)
    options = STOP | {"save_every": 2, "evaluate": evaluate}
    whole = train(tmp_path / "whole", **options)
    with pytest.raises(Kill):
        train(tmp_path / "cut", stream=lambda s: batches(s, stop_at), **options)
    resumed = train(tmp_path / "cut", **options)
    same(resumed, whole)
    assert (resumed.best, resumed.step) == (whole.best, whole.step)


class Clock:
    """Seconds that pass when work is done."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_an_alarm_ends_a_run_also_after_a_restart(tmp_path):
    def alarm(rows):
        return any(row["step"] >= 6 for row in rows)

    found = train(tmp_path, stop_if=alarm)
    assert (found.step, found.reason) == (6, "alarm")
    again = train(tmp_path, stop_if=alarm)
    assert (again.step, again.reason) == (6, "alarm")
    assert float(again.state.seen) == float(found.state.seen)
    on = train(tmp_path)  # without it the run goes on
    assert (on.step, on.reason) == (12, "steps")


def test_wall_time_counts_steps_and_data_only():
    clock = Clock()

    def update(state, batch):
        clock.now += 1.0
        return UPDATE(state, batch)

    def stream(first):
        for batch in batches(first):
            clock.now += 0.5
            yield batch

    def evaluate(state):
        clock.now += 100.0
        return {"eval/si_sdri_db": 0.0}

    result = train(
        update=update,
        stream=stream,
        evaluate=evaluate,
        eval_every=2,
        max_wall_s=7.5,
        clock=clock,
    )
    # Step s ends after its own second, with the next batch there: 1.5 s + 0.5.
    assert result.reason == "time"
    assert result.step == 5
    assert result.wall_s == 8.0


def test_time_used_up_before_a_restart_is_not_given_again(tmp_path):
    clock = Clock()

    def update(state, batch):
        clock.now += 1.0
        return UPDATE(state, batch)

    first = train(tmp_path, update=update, max_wall_s=3.0, clock=clock)
    again = train(tmp_path, update=None, stream=None, max_wall_s=3.0, clock=clock)
    assert (first.reason, again.reason) == ("time", "time")
    same(again, first)


def test_metrics_are_not_read_between_rows():
    reads = []

    class Lazy:
        def __init__(self, step):
            self.step = step

        def __array__(self, *args, **kwargs):
            reads.append(self.step)
            return np.asarray(0.0)

    def update(state, batch):
        state, _ = UPDATE(state, batch)
        return state, {"toy/loss": Lazy(int(state.step))}

    train(update=update, save_every=0, num_steps=6, log_every=3)
    assert reads == [3, 6]


@pytest.mark.parametrize("name", ["toy/loss", "grad/norm"])
def test_a_loss_that_is_not_finite_stops_before_it_is_saved(tmp_path, name):
    def update(state, batch):
        state, _ = UPDATE(state, batch)
        return state, {name: jnp.where(state.step > 5, jnp.nan, 1.0)}

    with pytest.raises(ValueError, match=f"{name} is nan at step 6, expected a finite"):
        train(tmp_path, update=update)
    with CheckpointStore(tmp_path / "checkpoints") as store:
        assert store.steps() == [4]


def test_progress_hears_every_step():
    heard = []

    class Ear:
        def __call__(self, step, num_steps, row):
            heard.append((step, bool(row)))

        def close(self):
            heard.append("closed")

    train(num_steps=3, save_every=0, progress=Ear())
    assert heard == [(1, False), (2, True), (3, True), "closed"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log_every": 0}, "log_every is 0, expected >= 1"),
        ({"save_every": -1}, "save_every is -1, expected >= 0"),
        ({"early_stop": EarlyStop()}, "expected evaluate and eval_every > 0"),
        (
            {**STOP, "early_stop": EarlyStop(0), "evaluate": scored(0.0)},
            "patience is 0, expected >= 1",
        ),
        (
            {**STOP, "evaluate": lambda state: {"eval/other": 1.0}},
            "eval/si_sdri_db is None at step 0",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        train(**options)


def test_iterator_is_closed_on_the_way_out():
    closed = []

    class Stream:
        def __next__(self):
            raise Kill

        def close(self):
            closed.append(True)

    with pytest.raises(Kill):
        train(stream=lambda first: Stream())
    assert closed == [True]
