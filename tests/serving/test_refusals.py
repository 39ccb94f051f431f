"""What the application refuses: bad requests, too much, names, other sites."""

import json

import pytest

from marssep_jax.serving.jobs import FILES
from tests.support.forms import form, picture, sound

TEXT = ["violin"]


def error_of(response):
    line = response.json()["error"]
    assert "\n" not in line
    assert "unexpected" not in line
    return line


@pytest.mark.parametrize(
    ("mixture", "items", "wrong"),
    [
        (b"no sound", TEXT, "mixture is 'song.wav', expected a readable wav"),
        (b"", TEXT, "mixture is 'song.wav', expected a readable wav"),
        (picture(), TEXT, "mixture is 'song.wav', expected a readable wav"),
        (sound(), [], "query has other items"),
        (sound(), ["x"] * 9, "query has other items"),
        (sound(), [" "], "text is ' '"),
        (sound(), ["a" * 501], "text is 'aaa"),
        (sound(), [("text", "a", {"weight": 0})], "weight is 0"),
        (sound(), [("text", "a", {"weight": float("nan")})], "weight is nan"),
        (sound(), [("text", "a", {"weight": "1"})], "weight is '1'"),
        (sound(), [("smell", b"a")], "modality is 'smell'"),
        (sound(), [("audio", sound(), {"file": "x"})], "file is 'x'"),
        (sound(), [("text", "a", {"colour": 1})], "query holds another item"),
    ],
)
def test_bad_requests(client, left, mixture, items, wrong):
    response = client.post("/api/separate", **form(mixture, items))
    assert response.status_code == 400
    assert wrong in error_of(response)
    assert left(wait=3.0) == []


@pytest.mark.parametrize(
    ("item", "wrong"),
    [
        (("audio", b"no sound"), "clip is 'audio0', expected a readable"),
        (("image", b"no picture"), "picture is 'image0', expected a readable"),
        (("image", sound()), "picture is 'image0', expected a readable"),
        ("\ud800", "expected some words"),
        ("?", "expected a longer word"),
    ],
)
def test_bad_items(separate, left, item, wrong):
    assert wrong in separate(sound(), [item])[-1]["error"]
    assert left(wait=3.0) == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        "[",
        "[" * 5_000,
        "[]",
        "{}",
        '{"items": 1}',
        '{"items": [1]}',
        '{"items": [{"modality": "text", "text": "a"}], "mask": []}',
        '{"items": [{"modality": "text", "text": "a"}], "seed": true}',
        '{"items": [{"modality": "audio", "file": []}]}',
    ],
)
def test_bad_json(client, query):
    files = {"mixture": ("a", sound())}
    response = client.post("/api/separate", files=files, data={"query": query})
    assert response.status_code == 400
    error_of(response)


def test_bad_forms(client):
    post = client.post
    kind = {"content-type": "multipart/form-data"}
    bound = {"content-type": "multipart/form-data; boundary=x"}
    assert error_of(post("/api/separate", json={})).startswith("request is no form")
    for headers, content in ((kind, b"--x"), (bound, b"a"), (bound, b"--x\r\n\r\n")):
        response = post("/api/separate", content=content, headers=headers)
        assert response.status_code == 400
        error_of(response)
    data = {str(number): "x" for number in range(9)}
    response = post("/api/separate", data=data, files={"mixture": ("a", sound())})
    assert "Too many fields" in error_of(response)
    files = {str(number): ("a", b"x") for number in range(20)}
    assert "Too many files" in error_of(post("/api/separate", files=files))


def test_too_large(open_client, left):
    client = open_client(upload_bytes=20_000)
    sent = form(sound(1.0), TEXT)
    response = client.post("/api/separate", **sent)
    assert response.status_code == 413
    assert error_of(response) == "upload is too large, expected at most 0.02 MB"
    # The same without a length.
    request = client.build_request("POST", "/api/separate", **sent)
    headers = {"content-type": request.headers["content-type"]}
    content = iter([request.read()])
    response = client.post("/api/separate", content=content, headers=headers)
    assert "content-length" not in response.request.headers
    assert response.status_code == 413
    assert client.post("/api/separate", **form(sound(0.1), TEXT)).status_code == 200
    assert len(left()) == 1


def test_too_long(open_client):
    client = open_client(length_s=0.6, num_values=50_000)
    response = client.post("/api/separate", **form(sound(0.7), TEXT))
    assert error_of(response) == (
        "mixture is 'song.wav', expected at most 0.6 s, not 0.7"
    )
    wide = sound(0.5, 44_100, 3)
    assert "3 channels" in error_of(client.post("/api/separate", **form(wide, TEXT)))
    sent = form(sound(0.5), [("audio", sound(0.7))])
    last = client.post("/api/separate", **sent).text.splitlines()[-1]
    assert "clip is 'audio0', expected at most" in json.loads(last)["error"]


@pytest.mark.parametrize(
    "name", ["../../x.wav", "..\\..\\x.wav", "/etc/x.wav", "\0x.wav", "%2e%2e/x.wav"]
)
def test_names_are_no_paths(client, separate, tmp_path, scratch, left, name):
    before = sorted(tmp_path.rglob("*"))
    result = separate(sound(), TEXT, name=name)[-1]["result"]
    assert left() == [result["token"]]
    new = set(tmp_path.rglob("*")) - set(before)
    assert {path.name for path in new if path.is_file()} == set(FILES)
    response = client.post("/api/separate", **form(b"bad", TEXT, name=name))
    assert ".." not in error_of(response)
    for path in ("%2e%2e/%2e%2e/etc", "estimate.wav%00", "nothing.wav"):
        assert client.get(f"/results/{result['token']}/{path}").status_code == 404
    assert client.get("/static/%2e%2e/app.py").status_code == 404


@pytest.mark.parametrize(
    ("headers", "wrong"),
    [
        ({"host": "evil.example"}, "host is 'evil.example'"),
        ({"host": "[", "origin": "x"}, "host is '['"),
        ({"origin": "http://evil.example"}, "origin is 'http://evil.example'"),
        ({"origin": "null"}, "origin is 'null'"),
    ],
)
def test_other_sites_may_not_ask(client, headers, wrong):
    response = client.post("/api/separate", **form(sound(), TEXT), headers=headers)
    assert response.status_code == 403
    assert wrong in error_of(response)


def test_own_origin_may_ask(client):
    headers = {"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}
    assert client.get("/api/about", headers=headers).status_code == 200
