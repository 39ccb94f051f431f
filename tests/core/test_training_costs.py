"""Waiting, compiling and memory, as the rows of a run tell them."""

import jax
import jax.numpy as jnp
import pytest

from tests.core.test_training import UPDATE, batches, train


class Slow:
    """A batch that takes its time, a step that takes none."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds

    def __call__(self, first):
        for batch in batches(first):
            self.clock[0] += self.seconds
            yield batch


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_waiting_for_data_is_measured(seconds):
    """Steps take 3 s of which the device is ready at once; fetching comes on top."""
    clock = [0.0]

    def update(state, batch):
        clock[0] += 3.0
        state, metrics = UPDATE(state, batch)
        return jax.block_until_ready((state, metrics))

    result = train(
        update=update, stream=Slow(clock, seconds), clock=lambda: clock[0], log_every=4
    )
    shares = [row["run/wait_share"] for row in result.rows]
    # Five fetches fall into the first four steps, three into the last.
    count = seconds * 1.0
    expected = [5 * count / (12 + 5 * count), 4 * count / (12 + 4 * count)]
    expected.append(3 * count / (12 + 3 * count))
    assert shares == pytest.approx(expected)


def test_no_waiting_while_the_device_is_busy():
    """A batch that arrives before the step has ended has cost nothing."""
    clock = [0.0]

    @jax.jit
    def busy(state, batch):
        work = jax.lax.fori_loop(0, 300, lambda _, x: jnp.sin(x @ x), jnp.eye(500))
        state, _ = UPDATE(state, batch)
        return state, {"toy/loss": state.seen + 0.0 * work[0, 0]}

    stream = Slow(clock, 1.0)
    result = train(
        update=busy, stream=stream, clock=lambda: clock[0], num_steps=3, log_every=3
    )
    assert result.rows[0]["run/wait_share"] == pytest.approx(1 / 3)  # the first batch


def test_compilations_are_counted_in_the_row_they_belong_to():
    def step(state, batch):
        return UPDATE(state, batch + 0.25)

    result = train(update=jax.jit(step), stream=lambda first: batches(first))
    counts = [row["run/compiled"] for row in result.rows]
    assert counts[0] >= 1
    assert counts[1:] == [0.0] * 5
    assert result.rows[0]["run/compile_s"] > 0
    assert result.rows[0]["run/host_mb"] > 50
