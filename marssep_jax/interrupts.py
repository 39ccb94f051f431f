"""Stop cleanly on Ctrl-C and on a request to terminate.

JAX calls back into Python while it traces and compiles. An exception that a
signal raises there is sometimes swallowed and sometimes ends in a segmentation
fault; inside an import it may leave a C extension half initialised, inside a
checkpoint an event loop. A signal that arrives there waits for the next `check`;
anywhere else it raises at once.
"""

import signal
from types import FrameType

# Packages through whose frames no exception of a signal may pass.
DEFERRING = ("jax", "jaxlib", "flax", "orbax", "asyncio", "importlib")
_pending: list[int] = []


def install() -> None:
    """Take over SIGINT and SIGTERM; for programs, from the main thread."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _handle)


def check() -> None:
    """Raise what a signal asked for while it had to wait.

    Raises:
      KeyboardInterrupt: after Ctrl-C.
      SystemExit: after SIGTERM, with status 143.
    """
    if _pending:
        raise _exception(_pending.pop())


def _handle(number: int, frame: FrameType | None) -> None:
    if _must_wait(frame):
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
    return SystemExit(128 + number)
