"""Run a program and end it by SIGKILL at a moment that a name and a seed choose.

A thread looks at the main thread's stack until it is where the name says, waits for
a random time and kills the process. It says on standard error where that was.

Usage: python -m tests.support.killed MOMENT SEED PROGRAM [ARGUMENTS...]
"""

import os
import random
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

SESSION, STORE = "marssep_jax.training.session", "marssep_jax.checkpoint.store"


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a stack from its top."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def calls(frame: FrameType) -> Iterator[tuple[str, str]]:
    """Yield (module, function) of a stack from its top."""
    for one in frames(frame):
        yield str(one.f_globals.get("__name__")), one.f_code.co_name


def step_of(frame: FrameType) -> tuple[int, int] | None:
    """Return the step that the loop is at, and the last one."""
    for one in frames(frame):
        if one.f_globals.get("__name__") == SESSION and one.f_code.co_name == "_steps":
            session = one.f_locals["self"]
            return session.step, session.schedule.num_steps
    return None


def compiling(frame: FrameType) -> bool:
    """Say whether the step is being compiled, or read from the cache."""
    inside = any(module == "jax._src.compiler" for module, _ in calls(frame))
    return inside and step_of(frame) is not None


def within(module: str, *names: str) -> Callable[[FrameType], bool]:
    """Say whether a function is at work."""

    def test(frame: FrameType) -> bool:
        return any((module, name) in calls(frame) for name in names)

    return test


def at_step(test: Callable[[int, int], bool]) -> Callable[[FrameType], bool]:
    """Say whether the loop is at some step."""

    def check(frame: FrameType) -> bool:
        found = step_of(frame)
        return found is not None and test(*found)

    return check


# What to wait for, and the most seconds to wait after that.
MOMENTS: dict[str, tuple[Callable[[FrameType], bool], float]] = {
    "start": (lambda frame: True, 6.0),
    "compile": (compiling, 2.0),
    "read what is compiled": (compiling, 0.02),
    "first step": (at_step(lambda step, _: step == 1), 0.02),
    "step": (at_step(lambda step, last: 1 < step < last - 1), 0.2),
    "save": (within(STORE, "save", "wait"), 0.05),
    "evaluation": (within("marssep_jax.evaluation.scoring", "evaluate_mixtures"), 0.2),
    "last step": (at_step(lambda step, last: step >= last - 1), 0.02),
    "export": (within("marssep_jax.bundle", "save_bundle"), 0.05),
}


def watch(moment: str, seed: int, main_thread: int) -> None:
    """Wait for a moment and kill the process."""
    test, most_s = MOMENTS[moment]
    while not test(sys._current_frames()[main_thread]):
        time.sleep(0.0005)
    time.sleep(random.Random(seed).uniform(0.0, most_s))
    frame = sys._current_frames()[main_thread]
    ours = [
        f"{module.removeprefix('marssep_jax.')}.{name}"
        for module, name in calls(frame)
        if module.startswith(("marssep_jax", "experiments"))
    ]
    place = " < ".join(ours[:2]) or "imports"
    os.write(2, f"\nkilled at {moment}, in {place}\n".encode())
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run what the command line names, for a while."""
    moment, seed, name, *rest = sys.argv[1:]
    sys.argv = [name, *rest]
    sys.setswitchinterval(0.0005)
    arguments = (moment, int(seed), threading.main_thread().ident)
    threading.Thread(target=watch, args=arguments, daemon=True).start()
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
