"""ImageBind behind the contract of every encoder: from waveforms and pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.encoders.imagebind import (
    ImageBindConfig,
    make_imagebind,
    make_imagebind_encoder,
    mean_of_clips,
)
from marssep_jax.preprocessing.clip_pictures import clip_picture, crop_picture
from marssep_jax.preprocessing.imagebind_sound import imagebind_sound_host

pytestmark = pytest.mark.usefixtures("quick_compile")

RATE = 11_025
CONFIG = ImageBindConfig(
    embed_dim=12,
    **{"audio_width": 16, "audio_blocks": 1, "audio_heads": 2},
    **{"image_width": 16, "image_blocks": 1, "image_heads": 2},
    **{"text_width": 16, "text_blocks": 1, "text_heads": 2},
)
ENCODER = make_imagebind_encoder(CONFIG, RATE)
MODEL = make_imagebind(CONFIG)


@pytest.fixture(scope="module")
def params():
    return ENCODER.init(jax.random.key(0))


def waveforms(*shape):
    return 0.1 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("num_samples", [300, 32_767])
def test_waveforms_take_the_published_way(params, num_samples):
    waveform = waveforms(2, num_samples)
    found = jax.jit(ENCODER.audio)(params, waveform)
    mels = np.stack([imagebind_sound_host(row[None], RATE) for row in waveform])
    mean = mean_of_clips(MODEL.audio(params, mels))
    expected = mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)
    assert found.shape == (2, 12)
    # The front end in float32 against float64.
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_same_clip_has_the_same_vector_to_the_last_bit(params):
    audio = jax.jit(ENCODER.audio)
    waveform = waveforms(3, 12_000)
    first = np.asarray(audio(params, waveform))
    assert all((np.asarray(audio(params, waveform)) == first).all() for _ in range(3))


def test_gradient_reaches_the_waveform(params):
    waveform = jnp.asarray(waveforms(1, 16_000)).at[:, :8_000].set(0.0)
    slope = jax.grad(lambda value: ENCODER.audio(params, value)[0, 0])(waveform)
    assert bool(jnp.isfinite(slope).all())
    assert float(jnp.abs(slope).max()) > 0


def test_bytes_of_a_picture_take_the_published_way(params):
    pixels = np.random.default_rng(1).integers(0, 256, (60, 90, 3), np.uint8)
    found = ENCODER.image(params, crop_picture(pixels)[None])[0]
    expected = MODEL.image(params, clip_picture(pixels)[None])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_leading_axes_are_kept(params):
    assert ENCODER.audio(params, waveforms(2, 1, 3_000)).shape == (2, 1, 12)
    assert ENCODER.text(params, np.ones((2, 3, 77), np.int32)).shape == (2, 3, 12)


def test_a_grid_is_no_waveform(params):
    with pytest.raises(ValueError, match=r"reward_on is .grid., expected .waveform."):
        ENCODER.audio_from_grid(params, jnp.zeros((1, 64, 32)))
