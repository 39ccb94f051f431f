"""Stop cleanly on Ctrl-C and on a request to terminate.

JAX calls back into Python while it traces and compiles. An exception that a
signal raises there is sometimes swallowed and sometimes ends in a segmentation
fault; inside an import it may leave a C extension half initialised, inside a
checkpoint an event loop. A signal that arrives there waits for the next `check`;
anywhere else it raises at once, unless the program wants to choose the moment at
which it is terminated.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

# Packages through whose frames no exception of a signal may pass.
DEFERRING = ("jax", "jaxlib", "flax", "orbax", "asyncio", "importlib")
_pending: list[int] = []
_state = {"holds": 0, "is_leaving": False}


class Termination(SystemExit):
    """SIGTERM was heard: the program is to save what it has and to leave."""


def install() -> None:
    """Take over SIGINT and SIGTERM; for programs, from the main thread."""
    _pending.clear()
    _state["is_leaving"] = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _handle)


def check() -> None:
    """Raise what a signal asked for while it had to wait.

    Raises:
      KeyboardInterrupt: after Ctrl-C.
      Termination: after SIGTERM, with status 143.
    """
    if _pending:
        raise _exception(_pending.pop())


@contextlib.contextmanager
def termination_waits() -> Iterator[None]:
    """Let SIGTERM wait for a `check` wherever in this block it arrives.

    Raises:
      Termination: at the block's end, if no check came before.
    """
    _state["holds"] += 1
    try:
        yield
    finally:
        _state["holds"] -= 1
    if signal.SIGTERM in _pending:
        raise _exception(signal.SIGTERM)


def _handle(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGTERM and _state["is_leaving"]:
        return  # whoever asks again must not disturb the saving
    if _must_wait(frame) or (number == signal.SIGTERM and _state["holds"]):
        _pending.append(number)
    else:
        raise _exception(number)


def _must_wait(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] in DEFERRING:
            return True
        frame = frame.f_back
    return False


def _exception(number: int) -> BaseException:
    _pending.clear()
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    _state["is_leaving"] = True
    return Termination(128 + number)
