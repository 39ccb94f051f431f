"""A short run of the fuzzer, and proof that it would notice."""

import os
import random
import socket
import tempfile
import threading
import time

import pytest

from marssep_jax import cli
from tests.fuzz import fuzz, mutate, requests

CASE = fuzz.Case(["inspect", "model"], {"a": b"1"})


def test_mutated_inputs(capfd):
    assert fuzz.main(["--num=60"]) == 0
    assert "0 of 60 failed" in capfd.readouterr().out


def answer(code, said="", write=()):
    def main(argv):
        if said:
            print(said, file=fuzz.sys.stderr)
        for name in write:
            with open(name, "w", encoding="utf-8"):
                pass
        return code

    return main


def chatty(argv):
    os.write(2, b"[mpg123] warning\n")
    return 0


def leaky(argv):
    with tempfile.NamedTemporaryFile(delete=False):
        return 0


def broken(argv):
    raise KeyError("frontend")


def slow(argv):
    time.sleep(30)


@pytest.mark.parametrize(
    ("main", "wrong"),
    [
        (answer(1, "path is 'a', expected b"), ""),
        (answer(0), ""),
        (answer(1, "one line\nand another"), "said 'one line"),
        (answer(1), "said ''"),
        (answer(1, "KeyError: 'x' (MARSSEP_DEBUG=1 shows where)"), 'said "KeyError'),
        (answer(139), "exit status 139"),
        (answer(1, "no room", [".a.part"]), "left behind: ['.a.part']"),
        (chatty, "said '[mpg123] warning"),
        (leaky, "left behind: ['tmp/tmp"),
        (broken, "KeyError: 'frontend'"),
        (slow, "longer than 1 s"),
    ],
)
def test_what_counts_as_a_failure(monkeypatch, tmp_path, main, wrong):
    monkeypatch.setattr(cli, "main", main)
    monkeypatch.setattr(fuzz, "LIMIT_S", 1)
    found = fuzz.run(CASE, tmp_path)
    assert wrong in found
    assert bool(wrong) == bool(found)


def test_a_case_is_a_function_of_its_number():
    raw = (fuzz.SEEDS / "pcm16.wav").read_bytes()
    first, again, other = (mutate.damage(raw, random.Random(n)) for n in (1, 1, 2))
    assert first == again != other
    assert first != raw


@pytest.mark.parametrize(
    ("raw", "wrong"),
    [
        (b"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\n\r\n{}", "said {}"),
        (b"HTTP/1.1 500 Ouch\r\n\r\nTraceback", "status 500"),
        (b"HTTP/1.1 400 Bad\r\n\r\nunexpected KeyError", "unexpected KeyError"),
        (
            b'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{"a": 1}',
            "said",
        ),
        (b"HTTP/1.1 404 Nothing\r\n\r\nNothing", ""),
        (b"", ""),
        (None, "longer than 0.1 s"),
    ],
)
def test_what_counts_as_a_wrong_answer(tmp_path, monkeypatch, raw, wrong):
    monkeypatch.setattr(requests, "SILENCE_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            caller, _ = server.accept()
            with caller:
                caller.recv(10)  # what stays unread resets the connection
                if raw is None:
                    done.wait()
                caller.sendall(raw or b"")

        done = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        limit_s = 0.1 if raw is None else 10
        found = requests.send(server.getsockname()[1], b"GET", tmp_path, limit_s)
        done.set()
        thread.join()
    assert wrong in found
    assert bool(wrong) == bool(found)


def test_what_a_request_leaves_is_seen(tmp_path, monkeypatch):
    (tmp_path / "server" / "token").mkdir(parents=True)
    with requests.serving(tmp_path) as port:
        raw = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert "left behind" in requests.send(port, raw, tmp_path, 0.2)
