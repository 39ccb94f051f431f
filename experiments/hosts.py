"""Several processes as one run: how they find each other, and how they part.

JAX's coordination service lives in process 0. It ends the others when one has not
been heard of for a while, from inside, with a page of C++ on standard error;
`experiments.host_log` makes one line of that.
"""

import atexit
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from absl import flags

from experiments.host_log import LOST

NAMES = ("coordinator", "num_processes", "process_id")
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# How the runtime words it when another process is gone: of collectives on CPU and
# GPU, of the coordination service, of its barriers.
_LOSSES = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|coordination|socket closed|"
    r"barrier|heartbeat|task .* (died|unhealthy)",
    re.IGNORECASE,
)


class Place(NamedTuple):
    """Which process this is; all None leaves it to what the cluster says."""

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def define_flags() -> None:
    """Define the flags of a program that several processes may run together."""
    names = ", ".join(VARIABLES)
    flags.DEFINE_bool(
        "cluster", False, "Ask the cluster (Cloud TPU, Slurm, MPI) for all processes."
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        f"HOST:PORT of process 0. These three also come by {names}.",
    )
    flags.DEFINE_integer("num_processes", None, "How many processes there are.")
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
    flags.DEFINE_integer(
        "heartbeat_s", 30, "Seconds without a sign of a process after which all end."
    )


def find_place(given: Mapping[str, Any], environ: Mapping[str, str]) -> Place | None:
    """Return which process this is, or None where it is the only one.

    Args:
      given: values of the flags.
      environ: the environment; flags go before it.

    Raises:
      ValueError: some of the three are missing, or do not fit each other.
    """
    if given["heartbeat_s"] < 5:
        raise ValueError(f"heartbeat_s is {given['heartbeat_s']}, expected >= 5")
    found: dict[str, Any] = {}
    for name, variable in zip(NAMES, VARIABLES, strict=True):
        value = given[name]
        if value is None and (text := environ.get(variable)):
            value = text if name == "coordinator" else _number(variable, text)
        if value is not None:
            found[name] = value
    if given["cluster"]:
        if found:
            name, value = next(iter(found.items()))
            raise ValueError(f"{name} is {value!r}, expected none with --cluster")
        return Place()
    if not found:
        return None
    if missing := [name for name in NAMES if name not in found]:
        raise ValueError(
            f"{missing[0]} is missing, expected it with {', '.join(found)}"
        )
    place = Place(**found)
    return _checked(place)


def _number(variable: str, text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"{variable} is {text!r}, expected a number")
    return int(text)


def _checked(place: Place) -> Place:
    count, index = place.num_processes or 0, place.process_id or 0
    if not re.fullmatch(r".+:\d+", place.coordinator or ""):
        raise ValueError(f"coordinator is {place.coordinator!r}, expected HOST:PORT")
    if count < 1:
        raise ValueError(f"num_processes is {count}, expected >= 1")
    if not 0 <= index < count:
        raise ValueError(f"process_id is {index}, expected 0 to {count - 1}")
    return place


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that the flags name; does nothing for a single one.

    It has to be entered before anything computes. A process that fails inside leaves
    at once, without waiting for the others: they notice.

    Raises:
      ValueError: flags that do not fit, or processes that do not come together.
      OSError: another process has ended.
    """
    place = find_place(flags.FLAGS.flag_values_dict(), os.environ)
    if place is None:
        yield
        return
    _shorten_log()
    import jax

    # It prints to standard error whenever a process ends; nothing here asks for it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            *place, heartbeat_timeout_seconds=flags.FLAGS.heartbeat_s
        )
    except RuntimeError as error:
        raise ValueError(f"coordinator is {place.coordinator!r}: {error}") from error
    try:
        yield
    except BaseException as error:
        atexit.register(_leave, _status(error))
        if isinstance(error, Exception) and _is_loss(error):
            raise OSError(LOST.removeprefix("error: ")) from error
        raise


def _is_loss(error: BaseException | None) -> bool:
    """Say whether an exception, or what it came from, is the loss of a process."""
    while error is not None:
        if not isinstance(error, SystemExit) and _LOSSES.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _status(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(bool(error.code))
    return 1


def _leave(status: int) -> None:
    """End without JAX's own farewell, which waits for processes that may be gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _shorten_log() -> None:
    """Send standard error through a process that says in a line what the runtime does.

    A process of its own, because the runtime aborts this one: a thread would not get
    to read what it wrote last.
    """
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "experiments.host_log"]
    child = subprocess.Popen(command, stdin=reader, start_new_session=True)
    child.returncode = 0  # it ends when this process has: nobody can wait for it
    os.close(reader)
    sys.stderr.flush()
    os.dup2(writer, sys.stderr.fileno())
    os.close(writer)


@contextlib.contextmanager
def first_alone(name: str) -> Iterator[None]:
    """Let process 0 do something before the others do, to find it done.

    Args:
      name: of what is done; all processes say the same.
    """
    from jax import process_count, process_index

    if process_count() == 1:
        yield
        return
    from jax.experimental.multihost_utils import sync_global_devices

    if process_index() > 0:
        sync_global_devices(name)
    yield
    if process_index() == 0:
        sync_global_devices(name)


def of_first(make: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return in every process what a function returns in process 0.

    Decisions that hang on measured numbers have to be the same everywhere.
    """
    import jax
    import numpy as np

    if jax.process_count() == 1:
        return make()
    from jax.experimental.multihost_utils import broadcast_one_to_all

    text = json.dumps(make()).encode() if jax.process_index() == 0 else b""
    length = int(broadcast_one_to_all(np.int32(len(text))))
    raw = np.frombuffer(text.ljust(length, b" "), np.uint8).astype(np.int32)
    return json.loads(np.asarray(broadcast_one_to_all(raw)).astype(np.uint8).tobytes())
