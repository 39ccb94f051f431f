"""ImageBind against the published model: its shapes, its keys and its numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.conversion.imagebind import IMAGEBIND_RULES
from marssep_jax.encoders.imagebind import (
    ImageBindConfig,
    make_imagebind,
    mean_of_clips,
)
from tests.support.published import convert, rule_weight

pytestmark = pytest.mark.usefixtures("quick_compile")

TINY = ImageBindConfig(
    embed_dim=32,
    **{"audio_width": 48, "audio_blocks": 2, "audio_heads": 4},
    **{"image_width": 64, "image_blocks": 2, "image_heads": 4},
    **{"text_width": 32, "text_blocks": 2, "text_heads": 4},
)
MODEL = make_imagebind(TINY)
THEIRS = {"audio": "audio", "image": "vision", "text": "text"}


def published_shapes(config):
    """Return every key of the published layout for our modalities, with its shape."""
    a, v, t = config.audio_width, config.image_width, config.text_width
    rows, columns = config.audio_grid
    size, patch, d = config.audio_patch, config.image_patch, config.embed_dim
    pre = "modality_preprocessors."
    shapes = {
        f"{pre}audio.cls_token": (1, 1, a),
        f"{pre}audio.rgbt_stem.proj.weight": (a, 1, size, size),
        f"{pre}audio.rgbt_stem.norm_layer.weight": (a,),
        f"{pre}audio.rgbt_stem.norm_layer.bias": (a,),
        f"{pre}audio.pos_embedding_helper.pos_embed": (1, rows * columns + 1, a),
        f"{pre}vision.cls_token": (1, 1, v),
        f"{pre}vision.rgbt_stem.proj.1.weight": (v, 3, 2, patch, patch),
        f"{pre}vision.pos_embedding_helper.pos_embed": (1, config.image_grid**2 + 1, v),
        f"{pre}text.token_embedding.weight": (config.vocabulary, t),
        f"{pre}text.pos_embed": (1, config.text_length, t),
        f"{pre}text.mask": (config.text_length, config.text_length),
        "modality_trunks.vision.pre_transformer_layer.0.weight": (v,),
        "modality_trunks.vision.pre_transformer_layer.0.bias": (v,),
        "modality_postprocessors.text.1.log_logit_scale": (),
        "modality_postprocessors.audio.1.log_logit_scale": (),
    }
    for ours, theirs in THEIRS.items():
        width = getattr(config, f"{ours}_width")
        for index in range(getattr(config, f"{ours}_blocks")):
            block = f"modality_trunks.{theirs}.blocks.{index}."
            for name, rows_out, columns_in in [
                ("attn.out_proj", width, width),
                ("mlp.fc1", 4 * width, width),
                ("mlp.fc2", width, 4 * width),
            ]:
                shapes[f"{block}{name}.weight"] = (rows_out, columns_in)
                shapes[f"{block}{name}.bias"] = (rows_out,)
            shapes[f"{block}attn.in_proj_weight"] = (3 * width, width)
            shapes[f"{block}attn.in_proj_bias"] = (3 * width,)
            for norm in ("norm_1", "norm_2"):
                shapes |= {f"{block}{norm}.{x}": (width,) for x in ("weight", "bias")}
            if ours == "audio":
                shapes |= {f"{block}attn.bias_{x}": (1, 1, width) for x in "kv"}
        head = f"modality_heads.{theirs}." + ("proj." if ours == "text" else "")
        shapes |= {f"{head}0.{x}": (width,) for x in ("weight", "bias")}
        shapes[head + ("1" if ours == "text" else "2") + ".weight"] = (d, width)
    return shapes


def weight_by_name(key, shape):
    """Return the weight that the golden numbers were computed with."""
    audio_scale = not shape and "audio" in key
    return np.float32(np.log(20.0)) if audio_scale else rule_weight(key, shape)


@pytest.fixture(scope="module")
def params():
    shapes = published_shapes(TINY)
    return convert(
        IMAGEBIND_RULES,
        {key: weight_by_name(key, shape) for key, shape in shapes.items()},
    )


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def channels_last(pixels):
    return np.moveaxis(pixels, -3, -1)


def token_ids():
    ids = np.zeros((2, 77), np.int32)
    ids[0, :4] = 49406, 1047, 46922, 49407
    ids[1] = [49406, *range(320, 395), 49407]
    return ids


def assert_golden(found, norm, first):
    """Compare norm and first values, to 1e-4 of the norm."""
    assert float(np.linalg.norm(found)) == pytest.approx(norm, rel=1e-4)
    np.testing.assert_allclose(found[:6], first, atol=1e-4 * norm)


def test_weights_by_name():
    head = weight_by_name("modality_heads.audio.2.weight", (32, 48))
    np.testing.assert_allclose(head.flat[:3], [0.0775673, 0.0452539, -0.0064267], 1e-5)
    norm = weight_by_name("modality_heads.audio.0.weight", (48,))
    np.testing.assert_allclose(norm[:2], [1.0482875, 1.3271621], 1e-6)


def test_golden_audio(params):
    mel = drawn(1, 2, 3, 1, 128, 204)[:, :, 0]
    assert mel.flat[:2] == pytest.approx([0.3455842, 0.8216181])
    clips = jax.jit(MODEL.audio)(params, mel)
    found = np.asarray(MODEL.scales(params)["audio"] * mean_of_clips(clips))
    first = [2.688786, 4.850298, -5.056833, -0.973940, -3.469562, -3.647108]
    assert_golden(found[0], 19.975346, first)
    first = [2.572722, 5.185929, -4.905306, -1.010698, -3.649713, -3.604016]
    assert_golden(found[1], 19.971649, first)


def test_golden_image(params):
    pixels = channels_last(drawn(2, 2, 3, 224, 224))
    found = np.asarray(jax.jit(MODEL.image)(params, pixels))
    first = [0.450695, -0.311400, 0.053020, -0.236718, -0.046410, 0.296984]
    assert_golden(found[0], 1.0, first)
    first = [0.453045, -0.311593, 0.055366, -0.237843, -0.049318, 0.301993]
    assert_golden(found[1], 1.0, first)


def test_golden_video(params):
    # Theirs is [clip, channel, frame, row, column].
    pixels = drawn(3, 1, 2, 3, 2, 224, 224)
    clips = jax.jit(MODEL.video)(params, np.moveaxis(pixels, 2, -1))
    first = [0.451153, -0.305248, 0.051999, -0.239717, -0.047616, 0.302581]
    assert_golden(np.asarray(mean_of_clips(clips))[0], 0.999957, first)


def test_golden_text(params):
    vectors = jax.jit(MODEL.text)(params, token_ids())
    found = np.asarray(MODEL.scales(params)["text"] * vectors)
    first = [0.657828, 0.355762, 1.150369, -0.901220, -2.850531, -0.464681]
    assert_golden(found[0], 14.285713, first)
    first = [0.950071, 0.385794, 1.022685, -0.568243, -2.975147, -0.008234]
    assert_golden(found[1], 14.285713, first)


PUBLISHED_COUNTS = {
    "audio": 374_784 + 85_072_896,
    "audio_head": 787_968,
    "image": 1_835_520 + 629_680_640,
    "image_head": 1_313_280,
    "text": 50_672_640 + 302_309_376,
    "text_head": 1_050_624,
    "log_temperature": 1,
}


def test_published_parameter_counts():
    shapes = jax.eval_shape(make_imagebind().init, jax.random.key(0))
    counts = {
        name: sum(leaf.size for leaf in jax.tree.leaves(part))
        for name, part in shapes.items()
    }
    assert counts == PUBLISHED_COUNTS
    assert sum(counts.values()) == 1_073_097_729


@pytest.mark.parametrize("config", [TINY, ImageBindConfig()], ids=["tiny", "published"])
def test_every_published_key_has_its_place(config):
    """Both ways: nothing of theirs is lost, and nothing of ours stays random."""
    published = published_shapes(config)
    # A view of one number has any shape and takes no memory.
    zeros = {k: np.broadcast_to(np.float32(0), s) for k, s in published.items()}
    mine = jax.eval_shape(make_imagebind(config).init, jax.random.key(0))
    theirs = jax.tree.map(lambda leaf: leaf.shape, convert(IMAGEBIND_RULES, zeros))
    assert theirs == jax.tree.map(lambda leaf: leaf.shape, mine)
    if config != TINY:  # two buffers of ours are no parameters
        kinds = [key.split(".")[1] for key in published]
        assert {k: kinds.count(k) for k in ("audio", "vision", "text")} == {
            "audio": 177,
            "vision": 392,
            "text": 295,
        }


def test_other_modalities_are_known_and_left_out():
    for key in (
        "modality_preprocessors.depth.cls_token",
        "modality_trunks.imu.blocks.3.attn.in_proj_weight",
        "modality_heads.thermal.2.weight",
    ):
        (rule,) = [r for r in IMAGEBIND_RULES if re.fullmatch(r.pattern, key)]
        assert rule.target == ""


def test_a_still_is_two_equal_frames(params):
    pixels = channels_last(drawn(4, 1, 3, 224, 224))
    still = MODEL.image(params, pixels)
    video = MODEL.video(params, np.stack([pixels, pixels], axis=1))
    np.testing.assert_allclose(still, video, atol=2e-6)


def test_what_follows_the_end_of_a_text_does_not_matter(params):
    ids = token_ids()[:1]
    other = ids.copy()
    other[0, 4:] = 300
    np.testing.assert_array_equal(MODEL.text(params, ids), MODEL.text(params, other))


def test_features_and_heads_make_the_embedding(params):
    mel = drawn(5, 2, 3, 128, 204)
    feature = MODEL.features["audio"](params, mel)
    assert feature.shape == (2, 3, 48)
    found = MODEL.heads["audio"](params, feature)
    np.testing.assert_allclose(found, MODEL.audio(params, mel), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, rtol=1e-5)


def test_vmap_equals_a_batch(params):
    mel = drawn(6, 3, 128, 204)
    found = jax.vmap(lambda clip: MODEL.audio(params, clip))(mel)
    np.testing.assert_allclose(found, MODEL.audio(params, mel), atol=2e-6)


def test_gradient_of_the_sound_is_finite(params):
    mel = drawn(7, 1, 128, 204)
    mel[0, :64] = 0.0
    slope = jax.grad(lambda value: MODEL.audio(params, value)[0, 0])(jnp.asarray(mel))
    assert bool(jnp.isfinite(slope).all())
    assert float(jnp.abs(slope).max()) > 0


def test_bfloat16_is_close(params):
    half = make_imagebind(ImageBindConfig(**(vars(TINY) | {"dtype": "bfloat16"})))
    mel = drawn(8, 2, 128, 204)
    found = half.audio(params, mel)
    assert found.dtype == jnp.float32
    cosine = np.sum(np.asarray(found) * np.asarray(MODEL.audio(params, mel)), axis=-1)
    assert cosine.min() > 0.999


def test_random_start_is_a_model():
    params = MODEL.init(jax.random.key(0))
    scales = MODEL.scales(params)
    assert float(scales["text"]) == pytest.approx(1 / 0.07, rel=1e-5)
    assert (float(scales["audio"]), float(scales["image"])) == (20.0, 1.0)
    found = np.asarray(MODEL.text(params, token_ids()))
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, rtol=1e-5)
    assert found[0] @ found[1] < 0.999


def test_text_scale_is_capped():
    params = {"log_temperature": jnp.asarray(-10.0)}
    assert float(MODEL.scales(params)["text"]) == 100.0


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        (
            "audio",
            (2, 128, 198),
            r"mel has shape \(2, 128, 198\), expected \[..., 128,",
        ),
        ("text", (2, 80), r"ids has shape \(2, 80\), expected \[..., 77\]"),
        ("image", (3, 224, 224), r"pixels has shape \(3, 224, 224\), expected"),
        (
            "video",
            (224, 224, 3),
            r"pixels has shape .* expected \[..., 2, 224, 224, 3\]",
        ),
    ],
)
def test_wrong_shapes(params, kind, shape, message):
    with pytest.raises(ValueError, match=message):
        getattr(MODEL, kind)(params, np.zeros(shape, np.float32))


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
