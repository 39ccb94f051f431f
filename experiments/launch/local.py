"""Run one training by several processes on this machine.

Examples:
  python -m experiments.launch.local --processes=2 -- \
      --config=experiments/configs/debug.py --workdir=/tmp/debug
  python -m experiments.launch.local --processes=4 --gpus --restarts=3 -- \
      --config=experiments/configs/vggsound_rl.py --workdir=runs/vggsound_rl

What stands after -- goes to experiments.train. With --gpus each process has the GPU of
its number; else it has what JAX finds, on a CPU one device. One process drives all
GPUs of a machine as well and needs no launcher. --restarts starts all processes again
after one was lost; they go on from the last checkpoint.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from absl import flags

from experiments.launch.commands import TRAIN, shown, start, training_flags

LOOK_S = 0.1


def main() -> None:
    """Start the processes that the flags name and wait for them."""
    values = flags.FLAGS
    if values.processes < 1:
        raise ValueError(f"processes is {values.processes}, expected >= 1")
    if values.restarts < 0:
        raise ValueError(f"restarts is {values.restarts}, expected >= 0")
    training = training_flags()
    for left in range(values.restarts, -1, -1):
        port = values.port or free_port()
        commands = process_commands(values.processes, port, training)
        for index, words in enumerate(commands):
            prefix = f"CUDA_VISIBLE_DEVICES={index} " if values.gpus else ""
            print(f"{prefix}{shown(words)} &", flush=True)
        if values.dry_run:
            print("wait")
            return
        status, lost = _run(commands, gpus=values.gpus)
        if not (lost and left):
            break
        print("a process was lost: all start again", flush=True)
    if status:
        sys.exit(status)


def process_commands(count: int, port: int, training: Sequence[str]) -> list[list[str]]:
    """Return the command of each process.

    Args:
      count: how many there are.
      port: of this machine, for process 0 to listen at.
      training: flags of the training.
    """
    place = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"]
    return [
        [*TRAIN, *training, *place, f"--process_id={index}"] for index in range(count)
    ]


def free_port() -> int:
    """Return a port of this machine that nobody listens at now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _run(commands: Sequence[Sequence[str]], *, gpus: bool) -> tuple[int, bool]:
    """Run processes until all have ended.

    Returns:
      The first status that is not 0, and whether a process died of a signal that
      nobody here passed on.
    """
    running = []
    for index, words in enumerate(commands):
        chosen = {"CUDA_VISIBLE_DEVICES": str(index)} if gpus else {}
        words = [sys.executable, *words[1:]]
        running.append(subprocess.Popen(words, env=os.environ | chosen))
    passed: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        passed.append(number)
        for process in running:
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    status = 0
    while any(process.poll() is None for process in running):
        ended = [process.returncode for process in running if process.returncode]
        status = status or next(iter(ended), 0)
        time.sleep(LOOK_S)
    codes = [process.returncode for process in running]
    status = status or next(filter(None, codes), 0)
    if passed:
        return 128 + passed[0], False
    return (128 - status if status < 0 else status), any(code < 0 for code in codes)


if __name__ == "__main__":
    flags.DEFINE_integer("processes", 2, "How many processes.")
    flags.DEFINE_bool("gpus", False, "One GPU a process.")
    flags.DEFINE_integer("port", 0, "Port of process 0; 0 takes a free one.")
    flags.DEFINE_integer("restarts", 0, "Starts after a process was lost, at most.")
    start(main)
