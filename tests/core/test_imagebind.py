"""What ImageBind promises at any size: axes, precision, gradients, messages."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.encoders.contract import normalise
from marssep_jax.encoders.imagebind import (
    ImageBindConfig,
    make_imagebind,
    mean_of_clips,
)

pytestmark = pytest.mark.usefixtures("quick_compile")

SMALL = ImageBindConfig(
    embed_dim=10,
    **{"audio_width": 16, "audio_blocks": 2, "audio_heads": 2},
    **{"image_width": 12, "image_blocks": 2, "image_heads": 3},
    **{"text_width": 8, "text_blocks": 2, "text_heads": 2},
    **{"mel_rows": 20, "mel_frames": 27, "audio_patch": 8, "audio_stride": 5},
    **{"image_size": 12, "image_patch": 4, "vocabulary": 40, "text_length": 9},
)
KINDS = ("audio", "text", "image", "video")
START, END = 38, 39


@pytest.fixture(scope="module")
def model():
    """The model with its functions jitted once."""
    made = make_imagebind(SMALL)
    jitted = {kind: jax.jit(getattr(made, kind)) for kind in KINDS}
    features = {kind: jax.jit(found) for kind, found in made.features.items()}
    return made._replace(**jitted, features=features)


@pytest.fixture(scope="module")
def params(model):
    return model.init(jax.random.key(0))


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def token_ids(*lead):
    """Texts of 1, 2, 3 ... words in turn, zero-padded."""
    ids = np.zeros((int(np.prod(lead)), 9), np.int32)
    for number, row in enumerate(ids):
        length = 1 + number % 7
        row[: length + 2] = [START, *(np.arange(length) + number + 1), END]
    return ids.reshape(*lead, 9)


def inputs(kind, *lead):
    shapes = {"audio": (20, 27), "image": (12, 12, 3), "video": (2, 12, 12, 3)}
    return token_ids(*lead) if kind == "text" else drawn(*lead, *shapes[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_leading_axes_are_free_and_vectors_have_length_one(model, params, kind):
    embed, value = getattr(model, kind), inputs(kind, 2, 3)
    whole = embed(params, value)
    assert (whole.shape, whole.dtype) == ((2, 3, 10), jnp.float32)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(embed(params, value[1, 2]), whole[1, 2], atol=1e-5)
    one_by_one = jax.vmap(lambda item: embed(params, item))(value[1])
    np.testing.assert_allclose(one_by_one, whole[1], atol=1e-5)
    # Different inputs are told apart before any training.
    assert np.abs(whole[0, 0] - whole[0, 1]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_heads_make_the_embedding(model, params, kind):
    value = inputs(kind, 2, 3)
    feature = model.features[kind](params, value)
    width = {"audio": 16, "text": 8, "image": 12, "video": 12}[kind]
    assert (feature.shape, feature.dtype) == ((2, 3, width), jnp.float32)
    found = model.heads[kind](params, feature)
    np.testing.assert_allclose(found, getattr(model, kind)(params, value), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(model, params, kind):
    modality = "image" if kind == "video" else kind
    value, aim = inputs(kind, 3), drawn(3, 10, seed=1)
    embed = getattr(model, kind)
    slope = jax.grad(lambda tree: jnp.sum(embed(tree, value) * aim))(params)
    for part, tree in slope.items():
        own = part in (modality, f"{modality}_head")
        for path, leaf in jax.tree.leaves_with_path(tree):
            assert np.isfinite(leaf).all(), path
            assert bool(np.abs(leaf).max() > 0) == own, (part, path)


def test_gradient_of_a_silent_sound_is_finite(model, params):
    silence = jnp.zeros((20, 27))
    slope = jax.grad(lambda mel: model.audio(params, mel)[0])(silence)
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0


def test_a_still_is_two_equal_frames(model, params):
    pixels = inputs("image", 3)
    video = np.stack([pixels, pixels], axis=1)
    still = model.image(params, pixels)
    np.testing.assert_allclose(model.video(params, video), still, atol=2e-6)
    # Time has a direction: the kernel's two halves differ.
    frames = inputs("video", 3)
    back = model.video(params, frames[:, ::-1])
    assert np.abs(back - model.video(params, frames)).max() > 1e-3


def test_clips_are_averaged_after_their_length_is_one(model, params):
    mel = inputs("audio", 2, 3)
    clips = np.stack([model.audio(params, mel[:, clip]) for clip in range(3)], axis=1)
    whole = mean_of_clips(model.audio(params, mel))
    np.testing.assert_allclose(whole, clips.mean(axis=1), atol=1e-6)
    length = np.linalg.norm(whole, axis=-1)
    assert (length < 1 - 1e-4).all()
    np.testing.assert_allclose(normalise(whole), whole / length[:, None], atol=1e-6)


def test_what_follows_the_end_of_a_text_does_not_matter(model, params):
    ids = token_ids(7)
    other = ids.copy()
    other[ids == 0] = 5
    found = model.text(params, ids)
    np.testing.assert_array_equal(found, model.text(params, other))
    # The first text ends at its third id: the rest need not be there.
    np.testing.assert_allclose(model.text(params, ids[0, :3]), found[0], atol=1e-6)
    other[0, 1] = 6
    assert np.abs(model.text(params, other)[0] - found[0]).max() > 1e-3


@pytest.mark.parametrize("unknown", [40, -1])
def test_an_id_outside_the_table_makes_its_text_nan(model, params, unknown):
    ids = token_ids(2)
    ids[1, 1] = unknown
    found = np.asarray(model.text(params, ids))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close(model, params, kind):
    half = make_imagebind(dataclasses.replace(SMALL, dtype="bfloat16"))
    value = inputs(kind, 4)
    found = jax.jit(getattr(half, kind))(params, value)
    assert found.dtype == jnp.float32
    whole = getattr(model, kind)(params, value)
    # Eight bits of mantissa: 0.004 a number, a few times that after some sums.
    distance = np.linalg.norm(found - whole, axis=-1)
    assert 0 < distance.max() < 0.03


def test_scales(model, params):
    scales = model.scales(params)
    assert float(scales["text"]) == pytest.approx(1 / 0.07, rel=1e-5)
    assert (float(scales["audio"]), float(scales["image"])) == (20.0, 1.0)
    capped = model.scales({"log_temperature": jnp.asarray(-10.0)})
    assert float(capped["text"]) == 100.0


def test_parameters_start_as_published():
    """Widths large enough that a spread is known to a few per cent."""
    sizes = {
        **{"audio_width": 96, "image_width": 64, "text_width": 80},
        **{"audio_blocks": 1, "image_blocks": 1, "text_blocks": 1},
        **{"audio_heads": 1, "image_heads": 1, "text_heads": 1, "vocabulary": 99},
    }
    tree = make_imagebind(ImageBindConfig(embed_dim=48, **sizes)).init(
        jax.random.key(1)
    )
    block = tree["audio"]["blocks"]["block_0"]
    extra = np.stack([block["attention"][f"extra_{x}"] for x in ("key", "value")])
    expected = [
        (block["attention"]["qkv"]["kernel"], (2 / (4 * 96)) ** 0.5),
        (block["attention"]["out"]["kernel"], 96**-0.5),
        (extra, 96**-0.5),
        (block["mlp"]["up"]["kernel"], (2 / (5 * 96)) ** 0.5),
        (tree["audio"]["tokens"]["position"], 96**-0.5),
        (tree["audio"]["patches"]["kernel"], (3 * 256) ** -0.5),
        (tree["image"]["kernel"], (3 * 2 * 3 * 14 * 14) ** -0.5),
        (tree["text"]["table"], 0.02),
        (tree["text"]["position"], 0.01),
        (tree["text_head"]["linear"]["kernel"], (3 * 80) ** -0.5),
    ]
    for leaf, spread in expected:
        tolerance = 4 / leaf.size**0.5
        assert float(leaf.std()) == pytest.approx(spread, rel=tolerance), leaf.shape
    norm = block["norm_1"]
    assert (norm["scale"] == 1).all()
    assert not np.concatenate([norm["bias"], block["mlp"]["up"]["bias"]]).any()


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("audio", drawn(2, 20, 26), "mel is float32 [2, 20, 26], expected floats "),
        ("audio", drawn(27), "mel is float32 [27], expected floats [..., 20, 27]"),
        (
            "text",
            np.ones((2, 10), np.int32),
            "[2, 10], expected integers [..., l], 1 <= l",
        ),
        ("text", np.ones((2, 0), np.int32), "ids is int32 [2, 0], expected integers "),
        ("text", drawn(2, 9), "ids is float32 [2, 9], expected integers [..., l]"),
        ("text", np.int32(3), "ids is int32 [], expected integers [..., l], 1 <= l"),
        ("image", drawn(3, 12, 12), "pixels is float32 [3, 12, 12], expected floats "),
        (
            "image",
            np.zeros((12, 12, 3), np.uint8),
            "pixels is uint8 [12, 12, 3], expected floats [..., 12, 12, 3]",
        ),
        (
            "video",
            drawn(3, 12, 12, 3),
            "pixels is float32 [3, 12, 12, 3], expected floats [..., 2, 12, 12, 3]",
        ),
    ],
)
def test_inputs_of_another_form_are_named(model, params, kind, value, message):
    with pytest.raises(ValueError, match="expected") as error:
        getattr(model, kind)(params, value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"audio_heads": 5},
            "audio_width is 768, expected a multiple of audio_heads = 5",
        ),
        ({"image_size": 225}, "image_size is 225, expected a multiple of image_patch"),
        ({"text_blocks": 0}, "text_blocks is 0, expected >= 1"),
        ({"mel_frames": 8}, "expected room for one audio_patch"),
        ({"dtype": "float16"}, "dtype is 'float16', expected 'float32' or 'bfloat16'"),
    ],
)
def test_bad_sizes(changes, message):
    with pytest.raises(ValueError, match=message):
        ImageBindConfig(**changes)
