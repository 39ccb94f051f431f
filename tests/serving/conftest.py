"""The page's application with a tiny model."""

import contextlib
import json
import tempfile
import time

import pytest
from starlette.testclient import TestClient

from marssep_jax.inference import Separator
from marssep_jax.serving.app import make_app
from marssep_jax.serving.limits import Limits
from marssep_jax.serving.server import LOOPBACK
from marssep_jax.untrained import untrained_bundle
from tests.support.forms import form


@pytest.fixture(scope="session")
def separator():
    return Separator(untrained_bundle())


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Return the folder that all temporary files go to."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def open_client(separator, scratch):
    """Return a function that opens the application; at the end, nothing is left."""
    with contextlib.ExitStack() as stack:

        def open_client(**limits):
            app = make_app(separator, Limits(**limits), LOOPBACK)
            return stack.enter_context(TestClient(app, "http://localhost"))

        yield open_client
    assert list(scratch.iterdir()) == []


@pytest.fixture
def client(open_client):
    return open_client()


@pytest.fixture
def separate(client):
    """Return a function that sends a form and returns the events it is told."""

    def separate(mixture, items, **settings):
        response = client.post("/api/separate", **form(mixture, items, **settings))
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.text.splitlines()]

    return separate


@pytest.fixture
def left(scratch):
    """Return a function that lists what requests have left in their folder.

    A file may go a moment after the answer has come: ``wait`` is how long, in seconds,
    for nothing to be left.
    """

    def left(wait=0.0):
        until = time.monotonic() + wait
        while True:
            found = sorted(path.name for path in scratch.glob("*/*"))
            if not found or time.monotonic() > until:
                return found
            time.sleep(0.05)

    return left
