"""The application of ``marssep serve``: what is asked, and what comes back."""

import io
import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from marssep_jax.queries import QueryItem
from marssep_jax.serving.app import STATIC, make_app
from marssep_jax.serving.jobs import FILES
from tests.support.forms import form, picture, sound

TEXT = ["violin"]


def read(raw):
    rows, rate = soundfile.read(io.BytesIO(raw), dtype="float32", always_2d=True)
    return rows.T, rate


def fetch(client, result, name):
    response = client.get(f"/results/{result['token']}/{name}")
    assert response.status_code == 200, response.text
    return response.content


# One request that holds all that the page can ask, checked against the library.
def test_what_is_asked_is_what_comes_back(client, separate, separator, left):
    mixture = sound(1.3, 22_050, 2, subtype="FLOAT")
    clip, photo = sound(0.4, seed=1, kind="FLAC"), picture()
    items = [
        ("text", "violin", {"weight": 0.5}),
        ("audio", clip, {"weight": 2}),
        ("image", photo, {"weight": 1.5}),
        ("text", "flute", {"remove": True}),
        ("audio", sound(0.2, seed=2), {"remove": True, "weight": 0.1}),
    ]
    *events, last = separate(mixture, items, mask="sample", seed=5)
    shares = [event["progress"] for event in events if "progress" in event]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    result = last["result"]
    assert (result["sample_rate_hz"], result["channels"]) == (22_050, 2)
    assert result["seconds"] == pytest.approx(1.3)
    assert sorted(result["files"]) == sorted(FILES)

    rows, rate = read(mixture)
    query = separator.compose(
        [
            QueryItem("text", "violin", 0.5),
            QueryItem("audio", read(clip), 2.0),
            QueryItem("image", np.asarray(Image.open(io.BytesIO(photo))), 1.5),
        ],
        [
            QueryItem("text", "flute"),
            QueryItem("audio", read(sound(0.2, seed=2)), 0.1),
        ],
    )
    parts = list(separator.stream([rows], rate, query, mask="sample", seed=5))
    for name in ("estimate", "residual"):
        wanted = np.concatenate([getattr(part, name) for part in parts], axis=1)
        found, found_rate = read(fetch(client, result, f"{name}.wav"))
        assert found_rate == rate
        np.testing.assert_array_equal(found, wanted)
    for name in ("mixture", "mask", "estimate", "residual"):
        with Image.open(io.BytesIO(fetch(client, result, f"{name}.png"))) as image:
            assert image.format == "PNG"
            assert image.height == 32
            assert len(set(np.asarray(image).ravel().tolist())) > 20

    assert left() == [result["token"]]
    place = f"/results/{result['token']}"
    assert client.delete(place).json() == {"deleted": True}
    assert left(wait=3.0) == []
    assert client.get(f"{place}/estimate.wav").status_code == 404
    assert client.delete(place).json() == {"deleted": False}


def test_scores_and_silence(separate):
    result = separate(sound(0.5), TEXT)[-1]["result"]
    assert -1 <= result["scores"]["similarity"] <= 1
    assert 0 < result["scores"]["energy_share"] < 1
    assert not result["silent"]
    file = io.BytesIO()
    soundfile.write(file, np.zeros(5_000), 44_100, format="WAV")
    result = separate(file.getvalue(), TEXT)[-1]["result"]
    assert result["silent"]
    assert result["scores"]["energy_share"] == 0.0


@pytest.mark.parametrize("kind", ["MP3", "OGG", "FLAC", "AIFF"])
def test_other_formats(client, separate, kind):
    rate = 44_100
    result = separate(sound(0.5, rate, kind=kind), TEXT, name="a")[-1]["result"]
    found, found_rate = read(fetch(client, result, "estimate.wav"))
    assert (found.shape, found_rate) == ((1, rate // 2), rate)


def test_removal_alone_is_the_rest(client, separate):
    mixture = sound(0.6, subtype="FLOAT")
    result = separate(mixture, TEXT)[-1]["result"]
    wanted, _ = read(fetch(client, result, "residual.wav"))
    result = separate(mixture, [("text", "violin", {"remove": True})])[-1]["result"]
    found, _ = read(fetch(client, result, "estimate.wav"))
    # FFTs in float32.
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_page_asks_nobody_else(client):
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?:", policy)
    assert client.get("/static/app.js").headers["content-security-policy"] == policy
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        # An SVG's namespace is a name, not an address.
        text = text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:|wss?:)?//[a-z0-9]", text, re.I), path.name
        assert not re.search(r"<script(?![^>]*\ssrc=)|\son[a-z]+=", text), path.name


def test_every_asset_that_is_named_is_there(client):
    named = set()
    for path in STATIC.iterdir():
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'(?:src|href)="(static/[^"]+)"', text))
        named |= set(re.findall(r'"(static/[^"]+)"', text))
        named |= {f"static/{n}" for n in re.findall(r'from "\./([^"]+)"', text)}
    assert named == {f"static/{path.name}" for path in STATIC.iterdir()} - {
        "static/index.html"
    }
    for name in named:
        response = client.get(f"/{name}")
        assert response.status_code == 200
        if name.endswith(".js"):  # a browser runs no module of another type
            assert "javascript" in response.headers["content-type"]


def test_about(client):
    about = client.get("/api/about").json()
    assert about["class_names"] == ["violin", "flute"]
    assert about["limits"]["upload_bytes"] == 100_000_000


def test_results_that_nobody_fetches_go(open_client, left):
    client = open_client(kept_s=0.1)
    text = client.post("/api/separate", **form(sound(), TEXT)).text
    result = json.loads(text.splitlines()[-1])["result"]
    deadline = time.monotonic() + 20
    while left() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left(wait=3.0) == []
    assert client.get(f"/results/{result['token']}/mask.png").status_code == 404


def test_two_at_once_get_their_own(client, separate):
    mixtures = [sound(1.5, rate, seed=rate) for rate in (16_000, 8_000)]
    found = {}

    def ask(mixture):
        found[mixture] = separate(mixture, TEXT)

    threads = [threading.Thread(target=ask, args=(one,)) for one in mixtures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tokens = set()
    for mixture, rate in zip(mixtures, (16_000, 8_000), strict=True):
        result = found[mixture][-1]["result"]
        tokens.add(result["token"])
        parts = [
            read(fetch(client, result, f"{name}.wav"))[0]
            for name in ("estimate", "residual")
        ]
        # Two files rounded to 16 bit: half a step each, 3.1e-5 together.
        np.testing.assert_allclose(sum(parts), read(mixture)[0], atol=1e-4)
        assert result["sample_rate_hz"] == rate
    assert len(tokens) == 2


def test_mistakes_of_ours_are_one_line(client, separate, monkeypatch, capfd, left):
    def broken(*_args):
        raise KeyError("row")

    monkeypatch.setattr("marssep_jax.serving.jobs.separate", broken)
    assert separate(sound(), TEXT)[-1] == {"error": "unexpected KeyError: 'row'"}
    assert left(wait=3.0) == []
    monkeypatch.setattr("marssep_jax.serving.studio.Studio.start", broken)
    client.app_state = None
    response = client.post("/api/separate", **form(sound(), TEXT))
    assert (response.status_code, response.json()) == (
        500,
        {"error": "unexpected KeyError"},
    )
    said = capfd.readouterr().err.splitlines()
    assert (
        said
        == ["marssep serve: unexpected KeyError: 'row' (MARSSEP_DEBUG=1 shows where)"]
        * 2
    )


def test_a_model_without_encoder_cannot_be_asked(separator):
    config = {**separator.bundle.config, "encoder": None}
    lame = separator.__class__(separator.bundle._replace(config=config))
    with pytest.raises(ValueError, match="checkpoint has no encoder"):
        make_app(lame)


def test_package_data_names_the_assets():
    settings = Path(__file__).parents[2] / "setup.cfg"
    assert "marssep_jax.serving = static/*" in settings.read_text(encoding="utf-8")
