"""Serve the page over HTTP until Ctrl-C."""

import logging
import socket
import sys

import uvicorn

from marssep_jax import interrupts
from marssep_jax.inference import Separator
from marssep_jax.serving.app import make_app
from marssep_jax.serving.limits import Limits

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# Of idle connections too; a page holds a handful.
MAX_CONNECTIONS = 128
# A separation that runs is given up: its window would be lost anyhow.
SHUTDOWN_S = 1


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; port 0 takes a free one.

    Raises:
      ValueError: no such address, or a port that is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"--host is {host!r}, expected an address of this machine ({error})"
        ) from error
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(address)
        opened.listen(128)
    except OSError as error:
        opened.close()
        raise ValueError(
            f"--host is {host!r} and --port {port}, expected an address of this "
            f"machine and a free port ({error.strerror})"
        ) from error
    return opened


def make_server(separator: Separator, host: str, limits: Limits) -> uvicorn.Server:
    """Build the server of the page, for a socket of `listen`.

    Raises:
      ValueError: a model without an encoder.
    """
    # Who sends a damaged form is told; nobody else needs to be.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    hosts = LOOPBACK if host in LOOPBACK else None
    config = uvicorn.Config(
        make_app(separator, limits, hosts),
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return uvicorn.Server(config)


def run(separator: Separator, opened: socket.socket, host: str, limits: Limits) -> None:
    """Serve the page on a listening socket.

    Raises:
      ValueError: a model without an encoder.
      KeyboardInterrupt: after Ctrl-C.
      SystemExit: after SIGTERM, with status 143.
    """
    server = make_server(separator, host, limits)
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{opened.getsockname()[1]} (Ctrl-C stops it)", flush=True)
    if host not in LOOPBACK:
        print(
            f"marssep serve: whoever reaches {shown} can use this page; there is "
            "no password, and nothing is encrypted",
            file=sys.stderr,
            flush=True,
        )
    server.run(sockets=[opened])
    interrupts.check()  # the signal that ended it, which its event loop put off
