"""Signals that arrive at a bad moment wait for a good one."""

import os
import signal

import jax
import jax.numpy as jnp
import pytest

from marssep_jax import interrupts


@pytest.fixture(autouse=True)
def handlers():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    interrupts.install()
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_signal_in_ones_own_code_raises_at_once(number, kind):
    with pytest.raises(kind) as caught:
        send(number)
    if kind is SystemExit:
        assert caught.value.code == 143
    interrupts.check()  # heard once only


@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_signal_while_jax_traces_waits_for_the_check(number, kind):
    @jax.jit
    def traced(value):
        send(number)
        return value + 1

    assert traced(jnp.float32(1)) == 2
    with pytest.raises(kind):
        interrupts.check()
    interrupts.check()


def test_nothing_happened():
    interrupts.check()
