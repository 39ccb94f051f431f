"""ImageBind's towers against the published code, on random weights."""

import os

import jax
import numpy as np
import pytest

from marssep_jax.conversion.imagebind import IMAGEBIND_RULES
from marssep_jax.encoders.imagebind import (
    ImageBindConfig,
    make_imagebind,
    mean_of_clips,
)
from tests.support.published import convert

torch = pytest.importorskip("torch")

SMALL = [
    ImageBindConfig(
        embed_dim=24,
        **{"audio_width": 32, "audio_blocks": 3, "audio_heads": 2},
        **{"image_width": 48, "image_blocks": 1, "image_heads": 3},
        **{"text_width": 40, "text_blocks": 2, "text_heads": 5},
    ),
    ImageBindConfig(
        embed_dim=40,
        **{"audio_width": 64, "audio_blocks": 1, "audio_heads": 8},
        **{"image_width": 32, "image_blocks": 3, "image_heads": 2},
        **{"text_width": 24, "text_blocks": 4, "text_heads": 2},
    ),
]
IN_FULL = pytest.mark.skipif(
    os.environ.get("MARSSEP_PARITY_FULL") != "1", reason="MARSSEP_PARITY_FULL is not 1"
)
SIZES = [*SMALL, pytest.param(ImageBindConfig(), marks=IN_FULL)]


def build_reference(config, seed=0):
    from imagebind.models.imagebind_model import ImageBindModel

    torch.manual_seed(seed)
    model = ImageBindModel(
        out_embed_dim=config.embed_dim,
        vision_embed_dim=config.image_width,
        vision_num_blocks=config.image_blocks,
        vision_num_heads=config.image_heads,
        text_embed_dim=config.text_width,
        text_num_blocks=config.text_blocks,
        text_num_heads=config.text_heads,
        audio_embed_dim=config.audio_width,
        audio_num_blocks=config.audio_blocks,
        audio_num_heads=config.audio_heads,
    )
    return model.eval()


def params_of(reference, theirs):
    """Rename the tensors of one modality; they stay where they are in memory."""
    state = {
        key: tensor.numpy()
        for key, tensor in reference.state_dict().items()
        if key.split(".")[1] == theirs
    }
    return convert(IMAGEBIND_RULES, state)


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def token_ids():
    ids = np.zeros((3, 77), np.int64)
    generator = np.random.default_rng(1)
    for row, length in zip(ids, (1, 9, 75), strict=True):
        words = generator.integers(1, 49_406, length)
        row[: length + 2] = [49_406, *words, 49_407]
    return ids


def say(name, config, ours, theirs):
    """Compare vectors relative to their length, and print the difference."""
    difference = np.linalg.norm(ours - theirs, axis=-1)
    relative = float((difference / np.linalg.norm(theirs, axis=-1)).max())
    print(f"{name} of width {config.embed_dim}: relative difference {relative:.1e}")
    assert relative < 1e-4


@pytest.fixture(scope="module", params=SIZES)
def pair(request, shelf):
    """A configuration and the published model of that size."""
    shelf.need("imagebind", "einops", "ftfy")
    shelf.open_imagebind()
    return request.param, build_reference(request.param)


def run(reference, theirs, value):
    with torch.no_grad():
        return reference({theirs: torch.from_numpy(value)})[theirs].numpy()


def test_sound(pair):
    config, reference = pair
    mel = drawn(2, 3, 1, 128, 204)
    params = params_of(reference, "audio")
    model = make_imagebind(config)
    unit = jax.jit(model.audio)(params, mel[:, :, 0])
    ours = 20.0 * np.asarray(mean_of_clips(unit))
    say("sound", config, ours, run(reference, "audio", mel))


def test_pictures(pair):
    config, reference = pair
    pixels = drawn(2, 3, 224, 224)
    params = params_of(reference, "vision")
    model = make_imagebind(config)
    ours = jax.jit(model.image)(params, np.moveaxis(pixels, 1, -1))
    say("pictures", config, np.asarray(ours), run(reference, "vision", pixels))


def test_films(pair):
    config, reference = pair
    frames = drawn(1, 2, 3, 2, 224, 224)
    params = params_of(reference, "vision")
    model = make_imagebind(config)
    unit = jax.jit(model.video)(params, np.moveaxis(frames, 2, -1))
    ours = np.asarray(mean_of_clips(unit))
    say("films", config, ours, run(reference, "vision", frames))


def test_words(pair):
    config, reference = pair
    ids = token_ids()
    params = params_of(reference, "text")
    model = make_imagebind(config)
    unit = jax.jit(model.text)(params, ids.astype(np.int32))
    ours = float(model.scales(params)["text"]) * np.asarray(unit)
    say("words", config, ours, run(reference, "text", ids))
