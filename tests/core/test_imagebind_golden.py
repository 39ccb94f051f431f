"""ImageBind against numbers of the published model, of one small size."""

import jax
import numpy as np
import pytest

from marssep_jax.conversion.imagebind import IMAGEBIND_RULES
from marssep_jax.encoders.imagebind import (
    ImageBindConfig,
    make_imagebind,
    mean_of_clips,
)
from tests.support.imagebind_keys import published_shapes
from tests.support.published import convert, rule_state

pytestmark = pytest.mark.usefixtures("quick_compile")

TINY = ImageBindConfig(
    embed_dim=32,
    **{"audio_width": 48, "audio_blocks": 2, "audio_heads": 4},
    **{"image_width": 64, "image_blocks": 2, "image_heads": 4},
    **{"text_width": 32, "text_blocks": 2, "text_heads": 4},
)
MODEL = make_imagebind(TINY)


@pytest.fixture(scope="module")
def params():
    return convert(IMAGEBIND_RULES, rule_state(published_shapes(TINY)))


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def token_ids():
    ids = np.zeros((2, 77), np.int32)
    ids[0, :4] = 49406, 1047, 46922, 49407
    ids[1] = [49406, *range(320, 395), 49407]
    return ids


def assert_golden(found, norm, first):
    """Compare norm and first values, to 1e-4 of the norm."""
    assert float(np.linalg.norm(found)) == pytest.approx(norm, rel=1e-4)
    np.testing.assert_allclose(found[:6], first, atol=1e-4 * norm)


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
    pixels = np.moveaxis(drawn(2, 2, 3, 224, 224), 1, -1)
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
