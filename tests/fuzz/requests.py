"""Mutated HTTP requests to the page's server, over a socket as they are."""

import contextlib
import http.client
import json
import random
import select
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from marssep_jax.inference import Separator
from marssep_jax.serving.limits import Limits
from marssep_jax.untrained import untrained_bundle
from tests.fuzz import mutate
from tests.support.live_server import live_server

# Short, so that half a request does not hold up those after it.
LIMITS = Limits(upload_bytes=2_000_000, length_s=60.0, upload_s=0.3)
SILENCE_S = 0.6
PLACES = ("/", "/api/about", "/api/separate", "/static/app.js", "/results/x/mask.png")
METHODS = ("GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS", "BREW")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Yield the port of a server whose temporary files go to a folder."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        with live_server(Separator(untrained_bundle()), LIMITS) as port:
            yield port
    finally:
        tempfile.tempdir = before


def request(
    sounds: Sequence[bytes],
    pictures: Sequence[bytes],
    words: list[str],
    draw: random.Random,
) -> bytes:
    """Return a request that the page could have sent, and then could not."""
    if draw.random() < 0.2:
        method, place = draw.choice(METHODS), draw.choice(PLACES)
        if draw.random() < 0.5:
            place += "/" + mutate.words(words, draw)[:2_000]
        raw = _whole(method, place, [], b"")
    else:
        raw = _separation(sounds, pictures, words, draw)
    return mutate.damage(raw, draw) if draw.random() < 0.4 else raw


def _separation(
    sounds: Sequence[bytes],
    pictures: Sequence[bytes],
    words: list[str],
    draw: random.Random,
) -> bytes:
    query: Any = {
        "items": [
            {"modality": "text", "text": mutate.words(words, draw), "weight": 1.5},
            {"modality": "audio", "file": "item1", "remove": draw.random() < 0.5},
            {"modality": "image", "file": "item2", "weight": 2},
        ],
        "mask": draw.choice(("mode", "mean", "sample")),
        "seed": 3,
    }
    if draw.random() < 0.4:
        query = mutate.damage_json(query, draw)
    parts = [
        ("query", None, json.dumps(query).encode()),
        ("mixture", "a.wav", draw.choice(sounds)),
        ("item1", "b.ogg", draw.choice(sounds)),
        ("item2", "c.png", draw.choice(pictures)),
    ]
    if draw.random() < 0.5:
        at = draw.randrange(len(parts))
        name, file, raw = parts[at]
        parts[at] = draw.choice(
            (
                (name, file, mutate.damage(raw, draw)),
                (name, mutate.words(words, draw)[:3_000], raw),
                (name, "../" * draw.randint(1, 9) + "x", raw),
                (mutate.words(words, draw)[:3_000], file, raw),
            )
        )
    body = b"".join(_part(*part) for part in parts) + b"--edge--\r\n"
    if draw.random() < 0.2:
        body = mutate.damage(body, draw)
    headers = ["Content-Type: multipart/form-data; boundary=edge"]
    length = draw.choice((len(body), len(body), len(body), len(body) // 2, 10**9))
    headers.append(f"Content-Length: {length}")
    if draw.random() < 0.2:
        headers.append(f"{mutate.words(words, draw)[:99]}: {mutate.words(words, draw)}")
    return _whole("POST", "/api/separate", headers, body)


def _part(name: str, file: str | None, raw: bytes) -> bytes:
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"'
    if file is not None:
        head += f'; filename="{file}"'
    return head.encode("utf-8", "surrogatepass") + b"\r\n\r\n" + raw + b"\r\n"


def _whole(method: str, place: str, headers: list[str], body: bytes) -> bytes:
    lines = [f"{method} {place} HTTP/1.1", "Host: localhost", "Connection: close"]
    head = "\r\n".join([*lines, *headers, "", ""])
    return head.encode("utf-8", "surrogatepass") + body


def send(port: int, raw: bytes, folder: Path, limit_s: float) -> str:
    """Send a request and return what is wrong with the answer, or ""."""
    with socket.create_connection(("127.0.0.1", port), timeout=limit_s) as caller:
        try:
            caller.sendall(raw)
            if not select.select([caller], [], [], SILENCE_S)[0]:
                caller.shutdown(socket.SHUT_WR)  # half a request: nothing more comes
            answer = http.client.HTTPResponse(caller)
            answer.begin()
            status, body = answer.status, answer.read()
        except TimeoutError:
            return f"longer than {limit_s} s"
        except (http.client.HTTPException, OSError):  # hung up: on half a request
            status, body = 0, b""
    wrong = _wrong(status, answer.headers.get("content-type", "") if body else "", body)
    if wrong:
        return f"status {status}: {wrong}"
    lines = body.splitlines()
    if lines and lines[-1].startswith(b'{"result"'):
        _delete(port, json.loads(lines[-1])["result"]["token"], limit_s)
    deadline = time.monotonic() + limit_s
    while left := [str(path) for path in folder.glob("*/*")]:
        if time.monotonic() > deadline:
            return f"left behind: {left}"
        time.sleep(0.01)
    return ""


def _wrong(status: int, kind: str, body: bytes) -> str:
    if status >= 500:
        return repr(body[:300])
    if b"unexpected" in body or b"Traceback" in body:
        return repr(body[-300:])
    if kind == "application/json":
        value = json.loads(body)
        if status >= 400 and not _is_line(value.get("error")):
            return f"said {value!r}"
    if kind == "application/x-ndjson":
        last = json.loads(body.splitlines()[-1])
        if "result" not in last and not _is_line(last.get("error")):
            return f"said {last!r}"
    return ""


def _is_line(text: object) -> bool:
    return isinstance(text, str) and bool(text) and "\n" not in text


def _delete(port: int, token: str, limit_s: float) -> None:
    caller = http.client.HTTPConnection("localhost", port, timeout=limit_s)
    with contextlib.closing(caller):
        caller.request("DELETE", f"/results/{token}")
        caller.getresponse().read()
