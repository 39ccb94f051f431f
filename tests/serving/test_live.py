"""The server on a real socket: visitors at once, and those who leave early."""

import contextlib
import json
import socket
import time

import httpx2
import pytest

from marssep_jax.serving.limits import Limits
from marssep_jax.serving.server import listen
from tests.support.forms import form, sound
from tests.support.live_server import live_server

TEXT = ["violin"]
# Some hundred windows of the tiny model: seconds of work, given up long before.
LONG = sound(120.0, 8_000)


@pytest.fixture
def serve(separator, scratch):
    """Return a function that starts a server; at the end, nothing is left."""
    with contextlib.ExitStack() as stack:

        def serve(**limits):
            port = stack.enter_context(live_server(separator, Limits(**limits)))
            return f"http://127.0.0.1:{port}"

        yield serve
    assert list(scratch.iterdir()) == []


def post(url, mixture, items=TEXT):
    return httpx2.stream(
        "POST", f"{url}/api/separate", **form(mixture, items), timeout=60
    )


def until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_waits_one_is_refused_and_one_who_leaves_is_forgotten(serve, left):
    url = serve(requests=2)
    with post(url, LONG) as first:
        lines = first.iter_lines()
        assert json.loads(next(lines)) == {"waiting": 0}
        assert "progress" in json.loads(next(lines))
        with post(url, sound()) as second:
            others = (json.loads(line) for line in second.iter_lines())
            assert next(others) == {"waiting": 1}
            with post(url, sound()) as third:
                assert third.status_code == 503
                assert (
                    "2 separations are under way" in json.loads(third.read())["error"]
                )
            assert len(left()) == 1
            first.close()
            assert next(others) == {"waiting": 0}
            *_, last = others
            assert left() == [last["result"]["token"]]
    until(lambda: httpx2.delete(f"{url}/results/{last['result']['token']}").json())
    assert left(wait=3.0) == []


def test_a_server_that_stops_takes_everything_along(serve):
    url = serve()
    with post(url, LONG) as response:
        assert "waiting" in next(response.iter_lines())
        post(url, LONG).__enter__()
        # The fixture stops the server and looks for what is left.


@pytest.mark.parametrize("body", [b"", b"--x\r\n", b"--x\r\nContent-Disposition: a"])
def test_an_upload_that_does_not_arrive(serve, body):
    url = serve(upload_s=0.2)
    head = (
        b"POST /api/separate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=30) as caller:
        caller.sendall(head + body)
        assert b"408" in caller.recv(1_000).partition(b"\r\n")[0]
    with socket.create_connection(address) as caller:
        caller.sendall(head + body)  # and gone
    assert httpx2.get(f"{url}/api/about").status_code == 200


def test_addresses_that_cannot_be_listened_to():
    with pytest.raises(ValueError, match="--host is 'aaa"):
        listen("a" * 80, 0)
    with pytest.raises(ValueError, match=r"--host is '192\.0\.2\.1' and --port 0"):
        listen("192.0.2.1", 0)
    with listen("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
        with pytest.raises(ValueError, match=rf"--port {port}, expected .* free port"):
            listen("127.0.0.1", port)
