"""Run a program and end it by SIGKILL at a moment that a name and a seed choose.

Some functions are watched: they say where the program is, and do what they do. At the
moment named, a thread waits for a random time and kills the process. It says on
standard error when that was, and what the program had come to by then.

Usage: python -m tests.support.killed MOMENT SEED PROGRAM [ARGUMENTS...]
"""

import functools
import os
import random
import runpy
import signal
import sys
import threading
import time
from typing import Any

# Where to wait, and the most seconds to wait there.
MOMENTS = {
    "start": 6.0,
    "compile": 2.0,
    "read what is compiled": 0.02,
    "first step": 0.02,
    "step": 0.1,
    "save": 0.15,
    "evaluation": 0.2,
    "last step": 0.02,
    "export": 0.05,
}
LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"


class Killer:
    """Kills the process some time after it has come to a moment."""

    def __init__(self, moment: str, seed: int) -> None:
        self.moment, self.place = moment, "start"
        self.delay_s = random.Random(seed).uniform(0.0, MOMENTS[moment])
        self.is_waiting = False
        self.arrive("start")

    def arrive(self, place: str) -> None:
        """Hear where the program is."""
        self.place = place
        if place == self.moment and not self.is_waiting:
            self.is_waiting = True
            threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        time.sleep(self.delay_s)
        after = f"{1e3 * self.delay_s:.0f} ms after {self.moment}"
        os.write(2, f"\nkilled {after}, last seen at {self.place}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner: Any, name: str, place: str) -> None:
        """Watch a function."""
        real = getattr(owner, name)

        @functools.wraps(real)
        def call(*args: Any, **options: Any) -> Any:
            self.arrive(place)
            return real(*args, **options)

        setattr(owner, name, call)

    def watch_steps(self, session: Any) -> None:
        """Watch the loop: it settles a step when the next is under way."""
        real = session._settle

        @functools.wraps(real)
        def settle(loop: Any) -> None:
            last = loop.schedule.num_steps
            if loop.step == 1:
                self.arrive("first step")
            elif 1 < loop.step < last - 1:
                self.arrive("step")
            elif loop.step >= last - 1:
                self.arrive("last step")
            real(loop)

        session._settle = settle

    def hear(self, event: str, seconds: float, **_: Any) -> None:
        """Hear of the compiler: what follows the first batch is the step."""
        if event == LOWERED and self.place == "first batch":
            anew = self.moment == "compile"
            self.arrive("compile" if anew else "read what is compiled")


def main() -> None:
    """Run what the command line names, for a while."""
    moment, seed, name, *rest = sys.argv[1:]
    sys.argv = [name, *rest]
    killer = Killer(moment, int(seed))
    from jax import monitoring

    from marssep_jax import bundle, evaluation
    from marssep_jax.checkpoint import CheckpointStore
    from marssep_jax.training.session import Session

    monitoring.register_event_duration_secs_listener(killer.hear)
    killer.watch(bundle, "save_bundle", "export")
    killer.watch(evaluation, "evaluate_mixtures", "evaluation")
    killer.watch(CheckpointStore, "save", "save")
    killer.watch(Session, "_iterate", "first batch")
    killer.watch_steps(Session)
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
