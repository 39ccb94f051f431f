"""CLAP against both published implementations, live, on random weights."""

import dataclasses
import os
import re

import jax
import numpy as np
import pytest

from experiments.benchmarks.references import numpy_state
from marssep_jax.conversion.clap import HUGGING_FACE, LAION
from marssep_jax.encoders.clap import (
    HTSAT_BASE,
    HTSAT_TINY,
    HTSAT_TINY_FUSED,
    ClapAudioConfig,
    ClapConfig,
    ClapTextConfig,
    make_clap,
)
from tests.support.clap_keys import hugging_face_shapes
from tests.support.clap_reference import hugging_face, laion_htsat, log_mel
from tests.support.clap_sizes import golden, small
from tests.support.published import convert

torch = pytest.importorskip("torch")

IN_FULL = pytest.mark.skipif(
    os.environ.get("MARSSEP_PARITY_FULL") != "1", reason="MARSSEP_PARITY_FULL is not 1"
)
# roberta-base's own eps.
OTHER_TEXT = ClapTextConfig(
    vocab_size=97,
    width=24,
    num_layers=3,
    num_heads=3,
    mlp_width=40,
    num_positions=30,
    eps=1e-5,
)


def other(fused):
    audio = ClapAudioConfig(
        width=12,
        depths=(1, 3, 2),
        num_heads=(2, 3, 4),
        fused=fused,
        num_mel_bins=16,
        picture_size=128,
        window_size=4,
        mlp_ratio=3,
    )
    return ClapConfig(audio, OTHER_TEXT, embed_dim=10)


def other_bottleneck():
    """LAION's fusion has no such setting."""
    made = other(True)
    audio = dataclasses.replace(made.audio, fusion_reduction=2)
    return dataclasses.replace(made, audio=audio)


CASES = [
    pytest.param(make(fused), num_frames, seed, id=f"{name}-{fused}-{num_frames}")
    for name, make, num_frames, seed in (
        ("golden", golden, 1_001, 0),
        ("small", small, 256, 1),
        ("small", small, 37, 2),
        ("other", other, 1_000, 3),
    )
    for fused in (False, True)
]


def sentences(config, seed):
    """Draw ids [3, 9] of different lengths, padded."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(3, config.text.vocab_size, (3, 9))
    ids[:, 0] = 0
    for row, length in enumerate((9, 2, 5)):
        ids[row, length - 1] = 2
        ids[row, length:] = config.text.pad_id
    return ids


@pytest.mark.parametrize(
    ("config", "num_frames", "seed"),
    [
        *CASES,
        pytest.param(other_bottleneck(), 1_000, 4, id="other-bottleneck"),
        pytest.param(HTSAT_TINY, 1_001, 5, id="tiny", marks=IN_FULL),
        pytest.param(HTSAT_TINY_FUSED, 1_001, 6, id="tiny-fused", marks=IN_FULL),
        pytest.param(HTSAT_BASE, 1_001, 7, id="base", marks=IN_FULL),
    ],
)
def test_transformers(config, num_frames, seed):
    model = hugging_face(config, seed)
    assert ClapConfig.from_published(model.config.to_dict()) == config
    state = numpy_state(model)
    assert {k: v.shape for k, v in state.items()} == hugging_face_shapes(config)
    params = convert(HUGGING_FACE, state)
    clap = make_clap(config)

    features, ids = log_mel(config, 3, num_frames, seed), sentences(config, seed)
    longer = np.array([True, False, True])
    given = {"is_longer": torch.tensor(longer[:, None])} if config.audio.fused else {}
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor((ids != config.text.pad_id).astype(int)),
            input_features=torch.tensor(features),
            **given,
        )
    inputs = (features, longer) if config.audio.fused else (features[:, 0],)
    audio = jax.jit(clap.audio)(params, *inputs)
    text = jax.jit(clap.text)(params, ids)
    np.testing.assert_allclose(audio, expected.audio_embeds, atol=2e-6)
    np.testing.assert_allclose(text, expected.text_embeds, atol=2e-6)
    # The towers, before projection and normalisation can hide a scale.
    hidden = jax.jit(clap.audio_tower)(params, *inputs)
    pooled = expected.audio_model_output.pooler_output
    np.testing.assert_allclose(hidden, pooled, atol=3e-6)
    hidden = jax.jit(clap.text_tower)(params, ids)
    pooled = expected.text_model_output.pooler_output
    np.testing.assert_allclose(hidden, pooled, atol=3e-6)
    logits = np.exp(params["log_scale_audio"]) * audio @ text.T
    np.testing.assert_allclose(logits, expected.logits_per_audio, atol=1e-4)
    logits = np.exp(params["log_scale_text"]) * text @ audio.T
    np.testing.assert_allclose(logits, expected.logits_per_text, atol=1e-4)


@pytest.mark.parametrize(("config", "num_frames", "seed"), CASES)
def test_laions_audio_tower(config, num_frames, seed):
    tower = laion_htsat(config, seed)
    state = {f"audio_branch.{key}": v for key, v in numpy_state(tower).items()}
    clap, audio = make_clap(config), convert(LAION, state)["audio"]
    features = log_mel(config, 3, num_frames, seed)
    longer = np.array([True, False, True])
    if config.audio.fused:
        given = {
            "mel_fusion": torch.tensor(features),
            "longer": torch.tensor(longer[:, None]),
        }
        inputs = (features, longer)
    else:
        given = {"waveform": torch.tensor(features)}
        inputs = (features[:, 0],)
    with torch.no_grad():
        expected = tower(given, device="cpu")["embedding"]
    hidden = jax.jit(clap.audio_tower)({"audio": audio}, *inputs)
    np.testing.assert_allclose(hidden, expected, atol=3e-6)


@pytest.mark.parametrize("config", [HTSAT_TINY, HTSAT_TINY_FUSED])
def test_the_key_listing_is_the_published_one(config):
    with torch.device("meta"):
        model = hugging_face_on_meta(config)
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert shapes == hugging_face_shapes(config)
    for key in shapes:
        matching = [r for r in HUGGING_FACE if re.fullmatch(r.pattern, key)]
        assert len(matching) == 1, key


def hugging_face_on_meta(config):
    transformers = pytest.importorskip("transformers")
    audio = {"enable_fusion": config.audio.fused}
    return transformers.ClapModel(transformers.ClapConfig(audio_config=audio))
