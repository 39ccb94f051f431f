"""Pass standard error on, with one line for what JAX says when a process is lost.

`experiments.hosts` starts it. It knows nothing of JAX and starts in no time.
"""

import re
import signal
import sys
from collections.abc import Iterable, Iterator

LOST = (
    "error: another process of this run has ended or cannot be reached: the same "
    "command goes on from the last checkpoint"
)
# The runtime's own lines: severity, month and day, time, thread, source, message.
_FATAL = re.compile(r"F\d{4} \d\d:\d\d:\d\d\.\d+ .*(distributed service|coordination)")
_CHATTER = re.compile(
    r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d+ .*(coordination|preemption|distributed)|"
    r"Additional GRPC error information|:UNKNOWN:Error received from peer|"
    r"\[Gloo\] Rank "
)


def shortened(lines: Iterable[str]) -> Iterator[str]:
    """Return lines without the runtime's, and one line for its end.

    Args:
      lines: of standard error.
    """
    is_told = False
    for line in lines:
        if _FATAL.match(line):
            if not is_told:
                yield f"{LOST}\n"
            return  # the process aborts: what follows is its stack
        if not _CHATTER.match(line):
            is_told = is_told or line.startswith("error: ")
            yield line


def main() -> None:
    """Filter standard input into standard error, until its writers have ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    lines = (raw.decode(errors="replace") for raw in sys.stdin.buffer)
    for line in shortened(lines):
        sys.stderr.write(line)
        sys.stderr.flush()
    for _ in lines:  # a writer must not be stopped by a full pipe
        pass


if __name__ == "__main__":
    main()
