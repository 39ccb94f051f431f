"""Keep what libraries in C say to themselves off standard error."""

import contextlib
import os
import threading
from collections.abc import Iterator

STDERR = 2
_lock = threading.Lock()


@contextlib.contextmanager
def no_chatter() -> Iterator[None]:
    """Send what is written to descriptor 2 nowhere, for a moment.

    The mp3 decoder in libsndfile comments on damaged files there, past Python, and
    nothing tells it not to. The descriptor is the whole process's: only calls into the
    library belong in this block.
    """
    with _lock:
        try:
            kept = os.dup(STDERR)
        except OSError:  # there is no standard error
            yield
            return
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, STDERR)
            os.close(nowhere)
            yield
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)
