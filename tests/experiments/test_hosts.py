"""Several processes are one run: the same numbers, one log, and one fate."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.host_log import LOST, shortened
from experiments.hosts import Place, find_place, first_alone, of_first
from experiments.launch.local import free_port

ROOT = Path(__file__).parents[2]
NOTHING = {
    "cluster": False,
    "coordinator": None,
    "num_processes": None,
    "process_id": None,
    "heartbeat_s": 30,
}
THREE = {"coordinator": "host:1234", "num_processes": 4, "process_id": 3}
VARIABLES = {
    "JAX_COORDINATOR_ADDRESS": "host:1234",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "1",
}


def test_flags_go_before_the_environment():
    assert find_place(NOTHING, {}) is None
    assert find_place(NOTHING | THREE, VARIABLES) == Place("host:1234", 4, 3)
    assert find_place(NOTHING, VARIABLES) == Place("host:1234", 4, 1)
    assert find_place(NOTHING | {"process_id": 0}, VARIABLES).process_id == 0
    assert find_place(NOTHING | {"cluster": True}, {}) == Place()


@pytest.mark.parametrize(
    ("given", "environ", "message"),
    [
        ({"coordinator": "h:1"}, {}, "num_processes is missing, expected it with coor"),
        (THREE | {"coordinator": "host"}, {}, "coordinator is 'host', expected HOST:P"),
        (THREE | {"process_id": 4}, {}, "process_id is 4, expected 0 to 3"),
        (THREE | {"num_processes": 0}, {}, "num_processes is 0, expected >= 1"),
        (THREE | {"cluster": True}, {}, "coordinator is 'host:1234', expected none"),
        ({"heartbeat_s": 1}, {}, "heartbeat_s is 1, expected >= 5"),
        ({}, {"JAX_PROCESS_ID": "one"}, "JAX_PROCESS_ID is 'one', expected a number"),
    ],
)
def test_places_that_do_not_fit(given, environ, message):
    with pytest.raises(ValueError, match=message):
        find_place(NOTHING | given, environ)


def test_one_process_is_on_its_own():
    with first_alone("anything"):
        assert of_first(lambda: {"eval/a": 1.5}) == {"eval/a": 1.5}


FATAL = (
    "F1126 11:55:12.516339    6024 client.h:80] Terminating process because the JAX "
    "distributed service detected fatal errors.\n"
)
STACK = "*** Check failure stack trace: ***\n"
CHATTER = "E1126 11:53:19.313500 5529 coordination_service_agent.cc:289] Polled\n"


def test_one_line_of_a_lost_process():
    log = ["rl 2/6\n", CHATTER, FATAL, STACK]
    assert list(shortened(log)) == ["rl 2/6\n", f"{LOST}\n"]
    assert list(shortened(["error: no room\n", FATAL, STACK])) == ["error: no room\n"]


def test_other_lines_pass():
    log = ["W1126 11:53:19.313500 5529 other.cc:1] note\n", "Traceback\n", "F1: x\n"]
    assert list(shortened(log)) == log


# What a training is to the runtime, without its minutes of compilation.
WAITING = """
import time
from absl import flags
from experiments import hosts
hosts.define_flags()
flags.FLAGS(__import__("sys").argv)
with hosts.joined():
    print("here", flush=True)
    time.sleep(300)
"""


@pytest.mark.slow
def test_a_process_that_hangs():
    """No socket closes, only the heartbeats stop: the runtime ends the others."""
    port, processes = free_port(), []
    for index in range(2):
        place = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2")
        command = [sys.executable, "-c", WAITING, *place, f"--process_id={index}"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        command.append("--heartbeat_s=5")
        processes.append(subprocess.Popen(command, cwd=ROOT, **pipes))
    try:
        for process in processes:
            assert process.stdout.readline() == "here\n", process.communicate()
        processes[1].send_signal(signal.SIGSTOP)
        _, err = processes[0].communicate(timeout=60)
        assert processes[0].returncode != 0
        assert err.splitlines() == [LOST]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
