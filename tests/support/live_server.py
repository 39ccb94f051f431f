"""The page's server on a free port of this machine, in a thread."""

import contextlib
import threading
import time

from marssep_jax.serving.limits import Limits
from marssep_jax.serving.server import listen, make_server


@contextlib.contextmanager
def live_server(separator, limits=None):
    """Yield the port of a server that runs as ``marssep serve`` runs it."""
    with listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        server = make_server(separator, "127.0.0.1", limits or Limits())
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield port
        finally:
            server.should_exit = True
            thread.join()
