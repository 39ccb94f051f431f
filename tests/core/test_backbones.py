"""Published weights inside an encoder: taken from their folder, never copied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.bundle import ModelBundle, load_bundle, save_bundle
from marssep_jax.config import EncoderConfig, FrontendConfig, to_dict
from marssep_jax.encoders import make_encoder
from marssep_jax.encoders.backbones import frozen_parts, initial_params, without_frozen
from marssep_jax.encoders.contract import KINDS, over_features
from marssep_jax.encoders.imagebind import make_imagebind
from marssep_jax.encoders.inputs import make_inputs
from marssep_jax.preprocessing.clip_pictures import crop_picture
from marssep_jax.weights.store import save_encoder
from tests.support.tiny_imagebind import TINY

pytestmark = pytest.mark.usefixtures("quick_compile")

FRONTEND = FrontendConfig(sample_rate_hz=11_025, num_samples=8_191, num_rows=64)
HEADS = {f"{kind}_head" for kind in KINDS} | {"log_temperature"}


def save_weights(folder, seed):
    params = jax.device_get(make_imagebind(TINY).init(jax.random.key(seed)))
    source = {"name": "tiny.pth", "size_bytes": 1, "sha256": {}}
    save_encoder(folder, "imagebind", TINY, params, "CC BY-NC-SA 4.0", source)
    return params


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("weights") / "imagebind"
    save_weights(place, 3)
    return place


def config_of(folder, **changes):
    sizes = {"embed_dim": 12, "image_size": 224, "text_length": 77}
    return EncoderConfig(
        architecture="imagebind", backbone=str(folder), **(sizes | changes)
    )


@pytest.fixture(scope="module")
def built(folder):
    config = config_of(folder)
    encoder = make_encoder(config, FRONTEND)
    return config, encoder, initial_params(jax.random.key(0), encoder, config)


INPUTS = {
    "audio": np.random.default_rng(0).normal(0, 0.1, (2, 5_000)).astype(np.float32),
    "text": np.random.default_rng(1).integers(1, 9, (2, 77)),
    "image": np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3), np.uint8),
}


def small():
    config = EncoderConfig(embed_dim=8, audio_widths=(8,), image_widths=(8,))
    encoder = make_encoder(config, FRONTEND)
    pixels = INPUTS["image"][:, :48, :48]
    ids = INPUTS["text"][:, :48]
    return encoder, encoder.init(jax.random.key(0)), {"text": ids, "image": pixels}


@pytest.mark.parametrize("kind", KINDS)
def test_published_embeddings_are_heads_over_features(built, kind):
    _, encoder, params = built
    feature = encoder.features[kind](params, INPUTS[kind])
    found = getattr(over_features(encoder), kind)(params, feature)
    np.testing.assert_allclose(
        found, getattr(encoder, kind)(params, INPUTS[kind]), atol=1e-6
    )
    assert feature.shape == (2, 48 if kind == "audio" else 16)  # three clips of sound


@pytest.mark.parametrize("kind", KINDS)
def test_small_embeddings_are_heads_over_features(kind):
    encoder, params, inputs = small()
    value = {**INPUTS, **inputs}[kind]
    feature = encoder.features[kind](params, value)
    heads = {name: params[name] for name in HEADS}  # trunks are not looked at
    np.testing.assert_allclose(
        getattr(over_features(encoder), kind)(heads, feature),
        getattr(encoder, kind)(params, value),
        atol=1e-6,
    )


def test_one_kind_alone_may_be_features():
    encoder, params, inputs = small()
    mixed = over_features(encoder, ("text",))
    feature = encoder.features["text"](params, inputs["text"])
    np.testing.assert_array_equal(
        mixed.text(params, feature), encoder.text(params, inputs["text"])
    )
    np.testing.assert_array_equal(
        mixed.audio(params, INPUTS["audio"]), encoder.audio(params, INPUTS["audio"])
    )


def test_features_have_no_grid():
    encoder, params, _ = small()
    with pytest.raises(ValueError, match="this encoder hears features"):
        over_features(encoder).audio_from_grid(params, jnp.zeros((1, 64, 32)))
    with pytest.raises(ValueError, match=r"kind is .smell., expected one of"):
        over_features(encoder, ("smell",))


def test_training_starts_from_the_published_weights(built, folder):
    _, _, params = built
    expected = jax.device_get(make_imagebind(TINY).init(jax.random.key(3)))
    same = jax.tree.map(lambda a, b: bool((a == b).all()), params, expected)
    assert jax.tree.all(same)


def test_pictures_and_words_take_the_published_way(folder):
    inputs = make_inputs(config_of(folder))
    pixels = INPUTS["image"][0, :60, :90]
    np.testing.assert_array_equal(inputs.image(pixels), crop_picture(pixels))
    assert inputs.text(["a violin"])[0, :2].tolist() == [49_406, 320]


def save_model(path, built):
    config, _, params = built
    sections = {"frontend": to_dict(FRONTEND), "encoder": to_dict(config)}
    bundle = ModelBundle(
        config=sections | {"separator": None, "judge": None},
        separator_params=None,
        model_state=None,
        encoder_params={"encoder": params, "fusion": {}},
        judge_params=None,
    )
    save_bundle(path, bundle)


def test_a_model_keeps_heads_and_names_the_rest(tmp_path, built):
    config, _, params = built
    assert set(frozen_parts(config)) == set(KINDS)
    assert set(without_frozen(config, params)) == HEADS
    save_model(tmp_path / "model", built)
    assert (tmp_path / "model" / "parameters.npz").stat().st_size < 30_000
    found = load_bundle(tmp_path / "model").encoder_params["encoder"]
    same = jax.tree.map(lambda a, b: bool((a == b).all()), found, params)
    assert jax.tree.all(same)


def test_other_weights_in_the_folder_are_refused(tmp_path):
    folder = tmp_path / "weights"
    save_weights(folder, 4)
    config = config_of(folder)
    encoder = make_encoder(config, FRONTEND)
    params = initial_params(jax.random.key(0), encoder, config)
    save_model(tmp_path / "model", (config, encoder, params))
    save_weights(folder, 5)
    with pytest.raises(ValueError, match="weights that the model was trained with"):
        load_bundle(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": 16}, r"config.encoder.embed_dim is 16, expected 12"),
        ({"image_size": 48}, r"config.encoder.image_size is 48, expected 224"),
        ({"backbone": "/nowhere"}, r"expected the folder of a converted imagebind"),
    ],
)
def test_settings_that_do_not_fit(folder, change, message):
    with pytest.raises(ValueError, match=message):
        make_encoder(config_of(**({"folder": folder} | _place(change))), FRONTEND)


def _place(change):
    return {("folder" if name == "backbone" else name): v for name, v in change.items()}


def test_another_architecture_is_refused(tmp_path):
    source = {"name": "x", "size_bytes": 1, "sha256": {}}
    arrays = {"a": np.zeros(2, np.float32)}
    save_encoder(tmp_path / "clap", "clap", {}, arrays, "CC0", source)
    with pytest.raises(ValueError, match=r"converted imagebind \(it holds clap\)"):
        make_encoder(config_of(tmp_path / "clap"), FRONTEND)


def test_a_backbone_needs_its_architecture():
    with pytest.raises(ValueError, match="backbone is '/x', expected the folder"):
        EncoderConfig(backbone="/x")
    with pytest.raises(ValueError, match="backbone is '', expected the folder"):
        EncoderConfig(architecture="imagebind")
