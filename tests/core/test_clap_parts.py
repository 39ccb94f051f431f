"""CLAP's picture, windows and sizes, each against a formula written out."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.encoders.clap import (
    HTSAT_BASE,
    HTSAT_TINY,
    HTSAT_TINY_FUSED,
    ClapAudioConfig,
    ClapConfig,
    ClapTextConfig,
    make_clap,
    make_clip_embedding,
)
from marssep_jax.encoders.clap.model import Clap
from marssep_jax.encoders.clap.picture import bicubic_matrix, fold_time, resize_time
from marssep_jax.encoders.clap.swin import (
    apart,
    from_windows,
    relative_index,
    to_windows,
)
from marssep_jax.preprocessing.clap_mel import clap_log_mel
from tests.support.clap_sizes import golden


@pytest.mark.parametrize(("num_in", "num_out"), [(1001, 1024), (1, 8), (2, 5), (5, 3)])
def test_bicubic_resize(num_in, num_out):
    matrix = bicubic_matrix(num_in, num_out)
    assert matrix.shape == (num_out, num_in)
    # A constant stays, and aligned corners keep the ends.
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=2e-6)
    np.testing.assert_array_equal(matrix[0], np.eye(num_in)[0])
    # The last coordinate may round to just before its sample.
    np.testing.assert_allclose(matrix[-1], np.eye(num_in)[-1], atol=1e-3)
    assert np.count_nonzero(matrix, axis=1).max() <= 4


def test_bicubic_weights_halfway():
    # At 0.5: near taps (a + 2)/8 - (a + 3)/4 + 1 = 0.59375 for a = -0.75, far ones
    # a (27/8 - 45/4 + 12 - 4) = -0.09375.
    weight = bicubic_matrix(6, 11)[5]
    np.testing.assert_allclose(
        weight, [0, -0.09375, 0.59375, 0.59375, -0.09375, 0], atol=1e-6
    )


def test_time_becomes_frequency():
    frames = np.random.default_rng(0).standard_normal((2, 1024, 64)).astype(np.float32)
    picture = fold_time(jnp.asarray(frames), 256)
    assert picture.shape == (2, 256, 256)
    for piece, frame, row in ((0, 0, 0), (3, 255, 63), (1, 7, 30), (2, 200, 5)):
        np.testing.assert_array_equal(
            picture[:, 64 * piece + row, frame], frames[:, 256 * piece + frame, row]
        )
    same = resize_time(jnp.asarray(frames), 1024)
    np.testing.assert_array_equal(same, frames)


def test_windows_are_cut_and_laid_out_again():
    grid = jnp.arange(2 * 6 * 9 * 2.0).reshape(2, 6, 9, 2)
    windows = to_windows(grid, 3)
    assert windows.shape == (2, 6, 9, 2)
    # Window 4 is the second row's second; its token 5 stands at (1, 2) in it.
    np.testing.assert_array_equal(windows[:, 4, 5], grid[:, 4, 5])
    np.testing.assert_array_equal(from_windows(windows, (6, 9)), grid)


def test_bias_by_relative_position():
    index = relative_index(8)
    for query in (0, 13, 63):
        for key in (0, 7, 42):
            dh, dw = query // 8 - key // 8, query % 8 - key % 8
            assert index[query, key] == (dh + 7) * 15 + dw + 7
    assert set(index.flat) == set(range(225))


def test_only_true_neighbours_attend():
    height, width, size, shift = 8, 12, 4, 2
    mask = apart((height, width), size, shift)
    place = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    origin = np.roll(place, (-shift, -shift), (1, 2))
    # Neighbours lie as far from each other as they did before the roll.
    drift = to_windows(jnp.moveaxis(jnp.asarray(origin - place, float), 0, -1), size)
    moved = np.any(drift[:, :, None] != drift[:, None, :], axis=-1)
    np.testing.assert_array_equal(mask, moved)
    assert mask.any()
    assert not mask[0].any()


WINDOW = 480_000


def fake_clap():
    """Return a CLAP that hears a window's first sample and its loudness."""
    names = ("init", "text", "audio_tower", "text_tower", "audio_head", "text_head")

    def audio(params, features):
        return features / jnp.linalg.norm(features, axis=-1, keepdims=True)

    return Clap(audio=audio, embed_dim=2, **dict.fromkeys(names))


def fake_mel(waveform):
    assert waveform.shape[-1] == WINDOW
    return jnp.stack([waveform[..., 0], jnp.mean(jnp.abs(waveform), -1)], axis=-1)


@pytest.mark.parametrize(
    ("levels", "samples", "expected"),
    [
        # A third of a window fits three times.
        ([3.0], WINDOW // 3, [3.0, 3.0]),
        # Once, then a quarter of zeros.
        ([3.0], WINDOW * 3 // 4, [4.0, 3.0]),
        ([3.0], WINDOW, [3.0, 3.0]),
        # (1, 1) and (-1, 1), each of length one: a whole window and a quarter.
        ([1.0, -5.0], WINDOW * 5 // 4, [1 - 0.25, 1 + 0.25]),
        ([1.0, -5.0], WINDOW * 2, [0.0, 1.0]),
    ],
)
def test_a_clip_is_the_mean_of_its_windows(levels, samples, expected):
    embed = make_clip_embedding(fake_clap(), fake_mel)
    waveform = jnp.repeat(jnp.array(levels), WINDOW)[:samples]
    found = embed({}, jnp.stack([waveform, 2 * waveform])[:, None])
    assert found.shape == (2, 1, 2)
    np.testing.assert_allclose(
        found, np.broadcast_to(expected / np.hypot(*expected), (2, 1, 2)), atol=1e-5
    )


def test_a_clip_has_samples():
    embed = make_clip_embedding(fake_clap(), fake_mel)
    with pytest.raises(ValueError, match=r"waveform has shape \(2, 0\), .* t >= 1"):
        embed({}, jnp.zeros((2, 0)))


@pytest.mark.usefixtures("quick_compile")
def test_a_clip_is_heard_as_a_mel_spectrogram():
    config = ClapConfig(
        ClapAudioConfig(width=4, depths=(1,), num_heads=(1,)),
        dataclasses.replace(golden(False).text, num_layers=1),
        embed_dim=5,
    )
    clap = make_clap(config)
    embed = jax.jit(make_clip_embedding(clap))
    params = clap.init(jax.random.key(0))
    time = jnp.arange(WINDOW // 2) / 48_000
    low, high = (0.3 * jnp.sin(2 * jnp.pi * hz * time) for hz in (440.0, 3_000.0))
    found = embed(params, jnp.stack([low, high]))
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=-1), 1.0, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    mel = clap_log_mel(jnp.tile(low, 2))
    np.testing.assert_allclose(found[0], clap.audio(params, mel), atol=1e-5)


def published(config):
    """Return the file that a published model of these sizes has."""
    audio, text = config.audio, config.text
    return {
        "model_type": "clap",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": 14.285714285714285,
        "audio_config": {
            "patch_embeds_hidden_size": audio.width,
            "hidden_size": audio.hidden_width,
            "depths": audio.depths,
            "num_attention_heads": audio.num_heads,
            "enable_fusion": audio.fused,
            "patch_stride": [4, 4],
            "mlp_ratio": 4.0,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
        },
        "text_config": {
            "vocab_size": text.vocab_size,
            "num_hidden_layers": text.num_layers,
            "layer_norm_eps": text.eps,
            "hidden_dropout_prob": 0.1,
        },
    }


@pytest.mark.parametrize("config", [HTSAT_TINY, HTSAT_TINY_FUSED, HTSAT_BASE])
@pytest.mark.parametrize("eps", [1e-12, 1e-5])
def test_published_config(config, eps):
    config = dataclasses.replace(config, text=ClapTextConfig(eps=eps))
    text = json.dumps(published(config))
    assert ClapConfig.from_published(json.loads(text)) == config
    # Frozen and hashable, as an argument of a jitted function has to be.
    assert hash(config) == hash(ClapConfig.from_published(json.loads(text)))


def test_an_empty_file_means_the_published_defaults():
    assert ClapConfig.from_published({}) == HTSAT_TINY


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (None, {"model_type": "clip"}, "model_type is 'clip', expected 'clap'"),
        ("audio_config", {"hidden_act": "silu"}, "audio_config.hidden_act is 'silu'"),
        ("audio_config", {"qkv_bias": False}, "qkv_bias is False, expected True"),
        ("audio_config", {"hidden_size": 512}, "hidden_size is 512, expected 768"),
        ("audio_config", {"patch_stride": [2, 2]}, r"patch_stride is \[2, 2\]"),
        ("audio_config", {"depths": None}, "audio_config.depths is None, .* tuple"),
        ("audio_config", {"mlp_ratio": 3.5}, "mlp_ratio is 3.5, expected int"),
        ("text_config", {"hidden_act": "relu"}, "text_config.hidden_act is 'relu'"),
        ("text_config", {"vocab_size": "many"}, "vocab_size is 'many', expected int"),
    ],
)
def test_published_variants_that_are_not_implemented(section, values, message):
    file = published(HTSAT_TINY)
    (file if section is None else file[section]).update(values)
    with pytest.raises(ValueError, match=message) as caught:
        ClapConfig.from_published(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ClapAudioConfig, {"depths": (2, 2)}, "num_heads is .* stages"),
        (ClapAudioConfig, {"width": 0}, "width is 0, expected > 0"),
        (ClapAudioConfig, {"depths": (2, 0, 6, 2)}, "depths is .* expected > 0"),
        (ClapAudioConfig, {"width": 90}, r"num_heads\[0\] is 4, .* divisor .* 90"),
        (ClapAudioConfig, {"num_mel_bins": 60}, "num_mel_bins is 60, expected a div"),
        (ClapAudioConfig, {"picture_size": 128}, "picture_size is 128, .* 256"),
        (ClapTextConfig, {"num_heads": 7}, "num_heads is 7, expected a divisor"),
        (ClapTextConfig, {"pad_id": 600}, "num_positions is 514, expected > pad_id"),
        (ClapTextConfig, {"pad_id": -1}, "pad_id is -1, expected in 0..50264"),
        (ClapTextConfig, {"eps": 0.0}, "eps is 0.0, expected > 0"),
    ],
)
def test_sizes_that_do_not_fit(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind(**values)
