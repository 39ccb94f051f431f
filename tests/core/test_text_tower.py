"""A published sentence encoder as the small encoder's frozen text tower."""

import json

import jax
import numpy as np
import pytest

from marssep_jax.bundle import ModelBundle, load_bundle, save_bundle
from marssep_jax.config import EncoderConfig, FrontendConfig, to_dict
from marssep_jax.encoders import make_encoder
from marssep_jax.encoders.backbones import frozen_parts, initial_params, without_frozen
from marssep_jax.encoders.contract import over_features
from marssep_jax.encoders.inputs import make_inputs
from marssep_jax.encoders.minilm import MiniLmConfig, make_minilm
from marssep_jax.inspection import describe, render
from tests.support.tiny_minilm import TINY, VOCABULARY, save_minilm

pytestmark = pytest.mark.usefixtures("quick_compile")

FRONTEND = FrontendConfig(sample_rate_hz=11_025, num_samples=8_191, num_rows=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("weights") / "minilm"
    save_minilm(place)
    return place


def config_of(folder, **changes):
    sizes = {"embed_dim": 8, "audio_widths": (8,), "image_widths": (8,)}
    tower = {"text_tower": "minilm", "text_backbone": str(folder), "text_length": 10}
    return EncoderConfig(**(sizes | tower | changes))


@pytest.fixture(scope="module")
def built(folder):
    config = config_of(folder)
    encoder = make_encoder(config, FRONTEND)
    return config, encoder, initial_params(jax.random.key(0), encoder, config)


CAPTIONS = ["The sound of a fiddle!", "violin"]


def test_words_go_through_the_published_encoder(built, folder):
    config, encoder, params = built
    ids = make_inputs(config).text(CAPTIONS)
    assert ids.shape == (2, 10)
    published = make_minilm(TINY)
    feature = encoder.features["text"](params, ids)
    expected = published.text(published.init(jax.random.key(3)), ids)
    np.testing.assert_allclose(feature, expected, atol=1e-6)
    head = expected @ params["text_head"]["kernel"]
    head /= np.linalg.norm(head, axis=-1, keepdims=True)
    np.testing.assert_allclose(encoder.text(params, ids), head, atol=1e-5)
    heads = {name: part for name, part in params.items() if name != "text"}
    found = over_features(encoder, ("text",)).text(heads, feature)
    np.testing.assert_allclose(found, head, atol=1e-5)


def test_only_the_trunk_is_published(built):
    config, encoder, params = built
    assert frozen_parts(config) == ("text",)
    drawn = encoder.init(jax.random.key(0))
    assert set(drawn) == set(params)
    for name in set(params) - {"text"}:
        # Compiled as one program they may be rounded otherwise.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            params[name],
            drawn[name],
        )
    assert params["text_head"]["kernel"].shape == (16, 8)


def save_model(path, config, params):
    sections = {"frontend": to_dict(FRONTEND), "encoder": to_dict(config)}
    bundle = ModelBundle(
        config=sections | {"separator": None, "judge": None},
        separator_params=None,
        model_state=None,
        encoder_params={"encoder": params, "fusion": {}},
        judge_params=None,
    )
    save_bundle(path, bundle)


def test_a_model_names_the_tower_and_shows_its_licence(tmp_path, built, folder):
    config, _, params = built
    assert "text" not in without_frozen(config, params)
    save_model(tmp_path / "model", config, params)
    found = load_bundle(tmp_path / "model").encoder_params["encoder"]
    jax.tree.map(np.testing.assert_array_equal, found, params)
    kept = json.loads((tmp_path / "model" / "bundle.json").read_text())
    assert "text" not in kept["layout"]["encoder_params"]["encoder"]
    shown = describe(tmp_path / "model")
    assert shown["licence_of"] == {"text_backbone": f"Apache-2.0 ({folder})"}
    assert f"Apache-2.0 ({folder})" in render(shown)
    assert "source.files.tokenizer.json" in render(describe(folder))


@pytest.mark.parametrize("change", [{"seed": 4}, {"tokenizer": "vocab.txt"}])
def test_other_weights_or_words_are_refused(tmp_path, change):
    place = tmp_path / "weights"
    save_minilm(place)
    config = config_of(place)
    encoder = make_encoder(config, FRONTEND)
    params = initial_params(jax.random.key(0), encoder, config)
    save_model(tmp_path / "model", config, params)
    save_minilm(place, **change)
    with pytest.raises(ValueError, match="weights that the model was trained with"):
        load_bundle(tmp_path / "model")


def test_long_captions_are_cut_and_empty_ones_refused(folder):
    text = make_inputs(config_of(folder)).text
    (row,) = text(["violin " * 10_000])
    violin = VOCABULARY.index("violin")
    assert row.tolist() == [2, *[violin] * 8, 3]
    for caption in ("", " \n"):
        with pytest.raises(ValueError, match="expected at least one letter"):
            text([caption])


def test_a_folder_that_does_not_do_is_named_in_one_line(tmp_path, folder):
    with pytest.raises(ValueError, match="expected the folder of a converted minilm"):
        make_encoder(config_of("/nowhere"), FRONTEND)
    for length in (2, 13):
        message = f"text_length is {length}, expected 3 to 12"
        with pytest.raises(ValueError, match=message):
            make_encoder(config_of(folder, text_length=length), FRONTEND)
    save_minilm(tmp_path / "mute", tokenizer=None)
    with pytest.raises(ValueError, match=r"text_backbone is '.*mute', expected") as e:
        make_inputs(config_of(tmp_path / "mute")).text(["violin"])
    assert "\n" not in str(e.value)
    save_minilm(tmp_path / "torn")
    (tmp_path / "torn" / "tokenizer.json").write_text("{}")
    config = config_of(tmp_path / "torn")
    with pytest.raises(ValueError, match=r"damaged: tokenizer\.json has changed"):
        initial_params(jax.random.key(0), make_encoder(config, FRONTEND), config)
    few = MiniLmConfig(**(vars(TINY) | {"vocab_size": len(VOCABULARY) - 1}))
    save_minilm(tmp_path / "few", config=few)
    with pytest.raises(ValueError, match="expected a tokenizer of at most"):
        make_inputs(config_of(tmp_path / "few")).text(["violin"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_backbone": "/x"}, "text_backbone is '/x', expected the folder"),
        ({"text_tower": "minilm"}, "text_backbone is '', expected the folder"),
        ({"text_tower": "bert"}, "text_tower is 'bert', expected"),
        (
            {
                "architecture": "imagebind",
                "backbone": "/x",
                "text_tower": "minilm",
                "text_backbone": "/y",
            },
            "text_tower is 'minilm', expected 'hashed'",
        ),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**changes)
