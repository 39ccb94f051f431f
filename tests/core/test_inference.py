"""Separation of whole waveforms and of streams, with a tiny untrained model."""

import functools
import itertools

import jax
import numpy as np
import pytest

from marssep_jax.audio import write_audio
from marssep_jax.bundle import ModelBundle, save_bundle
from marssep_jax.config import (
    EncoderConfig,
    FrontendConfig,
    SeparatorConfig,
    to_dict,
)
from marssep_jax.encoders import make_encoder
from marssep_jax.inference import Separator, separate
from marssep_jax.models import make_separator
from marssep_jax.streaming import make_mask_fn
from marssep_jax.transfer import make_transfer

FRONTEND = FrontendConfig(num_samples=4_096, num_rows=32)
SEPARATOR = SeparatorConfig("compact", embed_dim=12, num_channels=8, widths=(8, 16))
ENCODER = EncoderConfig(embed_dim=12, audio_widths=(8,), image_widths=(8,))
# Windows of 0.256 s, so this holds a dozen of them.
LENGTH_S = 2.0


@functools.cache
def tiny_bundle():
    network_key, encoder_key = jax.random.split(jax.random.key(0))
    params, state = make_separator(SEPARATOR).init(network_key, FRONTEND)
    return ModelBundle(
        config={
            "frontend": to_dict(FRONTEND),
            "separator": to_dict(SEPARATOR),
            "encoder": to_dict(ENCODER),
        },
        separator_params=params,
        model_state=state,
        encoder_params={"encoder": make_encoder(ENCODER, FRONTEND).init(encoder_key)},
        judge_params=None,
    )


@pytest.fixture(scope="module")
def separator():
    return Separator(tiny_bundle())


@pytest.fixture(scope="module")
def query(separator):
    return separator.embed(text="violin")


def noise(channels, num_samples, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.1, (channels, num_samples)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_parts_add_up_and_keep_their_shape(separator, query, rate, channels):
    mixture = noise(channels, round(rate * LENGTH_S) + 7)
    found = separate(separator.bundle, mixture, rate, query)
    assert found.target.shape == found.residual.shape == mixture.shape
    assert found.target.dtype == found.residual.dtype == np.float32
    # One float32 subtraction and one addition.
    np.testing.assert_allclose(found.target + found.residual, mixture, atol=1e-7)
    assert 0.05 < np.std(found.target) / np.std(mixture) < 0.95
    # Rounding to the model's rate may cost or gain the last frame.
    assert found.mask.shape[0] == 32
    assert abs(found.mask.shape[1] - (1 + LENGTH_S * 16_000 // 256)) <= 1
    assert 0.0 < found.mask.min() < found.mask.max() < 1.0


def constant_bundle(level):
    """Return a model whose mask is the same everywhere."""
    bundle = tiny_bundle()
    params = jax.tree.map(np.zeros_like, bundle.separator_params)
    params = dict(params) | {"bias": np.float32(np.log(level / (1 - level)))}
    return bundle._replace(separator_params=params)


@pytest.mark.parametrize("num_samples", [1, 300, 11_289, 11_290, 50_001])
def test_flat_mask_scales_the_recording_without_a_seam(query, num_samples):
    mixture = noise(2, num_samples)
    found = separate(constant_bundle(0.25), mixture, 44_100, query)
    # FFTs in float32: 1e-6 of samples below one, at joins and ends alike.
    np.testing.assert_allclose(found.target, 0.25 * mixture, atol=1e-6)
    np.testing.assert_allclose(found.mask, 0.25, atol=1e-6)


def test_channels_share_one_mask(separator, query):
    left = noise(1, 20_000)
    scales = np.array([[1.0], [0.5], [-0.25]], np.float32)
    found = separate(separator.bundle, scales * left, 22_050, query)
    # Equal masks keep proportions; scaling by powers of two is exact.
    np.testing.assert_allclose(found.target, scales * found.target[:1], atol=1e-7)


def test_blocks_do_not_change_the_result(separator, query):
    mixture = noise(2, 30_000)
    whole = separate(separator.bundle, mixture, 44_100, query)
    for size in (1_000, 7_777):
        blocks = [mixture[:, i : i + size] for i in range(0, 30_000, size)]
        parts = list(separator.stream(blocks, 44_100, query))
        streamed = np.concatenate([part.target for part in parts], axis=1)
        np.testing.assert_array_equal(streamed, whole.target)
        mask = np.concatenate([part.mask for part in parts], axis=1)
        np.testing.assert_array_equal(mask, whole.mask)


def test_endless_stream_flows(separator, query):
    """Output follows input at once: nothing waits for the end."""
    taken = itertools.count()
    block = noise(1, 4_096)

    def endless():
        while True:
            next(taken)
            yield block

    stream = separator.stream(endless(), 16_000, query)
    num_out = sum(part.target.shape[1] for part in itertools.islice(stream, 50))
    num_in = next(taken) * 4_096
    assert 0 < num_in - num_out <= 2 * 4_096


def test_windows_together_or_one_by_one(separator, query):
    mixture = noise(1, 30_000)
    alone = separate(separator.bundle, mixture, 16_000, query, window_batch=1)
    batched = separate(separator.bundle, mixture, 16_000, query, window_batch=4)
    # The network sums in another order at another batch size: float32 rounding.
    np.testing.assert_allclose(alone.target, batched.target, atol=1e-5)


def test_few_compilations_whatever_the_lengths(query):
    # A front end of its own, so that other tests' compilations do not count.
    frontend = FrontendConfig(num_samples=4_097, num_rows=32)
    bundle = tiny_bundle()
    bundle = bundle._replace(config=bundle.config | {"frontend": to_dict(frontend)})
    for rate, channels, length in [
        (16_000, 1, 100),
        (16_000, 2, 9_000),
        (16_000, 3, 12_345),
        (44_100, 1, 30_000),
        (44_100, 2, 5),
    ]:
        separate(bundle, noise(channels, length), rate, query)
    assert make_mask_fn(frontend, SEPARATOR)._cache_size() == 1
    for rate in (16_000, 44_100):
        assert make_transfer(frontend, rate).spread._cache_size() == 1
        assert make_transfer(frontend, rate).apply._cache_size() == 1


def test_louder_recording_gives_a_louder_target(separator, query):
    mixture = noise(1, 16_000)
    quiet = separate(separator.bundle, mixture, 16_000, query).target
    loud = separate(separator.bundle, 4 * mixture, 16_000, query).target
    # The network sees levels relative to the clip's; only the log floor differs.
    np.testing.assert_allclose(loud, 4 * quiet, atol=1e-4)


def test_removal_alone_leaves_the_rest(separator):
    mixture = noise(1, 9_000)
    kept = separator(mixture, 16_000, remove="violin")
    violin = separator(mixture, 16_000, text="violin")
    np.testing.assert_allclose(kept.target, violin.residual, atol=1e-6)


def test_negative_query_changes_the_mask(separator):
    mixture = noise(1, 9_000)
    plain = separator(mixture, 16_000, text="violin")
    less = separator(mixture, 16_000, text="violin", remove={"text": ["flute"]})
    assert np.abs(plain.mask - less.mask).max() > 1e-4


def test_silence_stays_silent(separator, query):
    found = separate(separator.bundle, np.zeros((2, 9_000)), 44_100, query)
    assert not found.target.any()
    assert not found.residual.any()


def test_loaded_model_separates_a_file(separator, tmp_path):
    save_bundle(tmp_path / "model", separator.bundle)
    mixture = noise(2, 9_000)
    write_audio(tmp_path / "a.wav", mixture, 22_050)
    image = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    queries = {"text": ["harp", "flute"], "audio": (mixture, 22_050), "image": image}
    for place in (tmp_path / "model", tmp_path):  # the bundle, or its workdir
        loaded = Separator.load(place)
        found = loaded(tmp_path / "a.wav", **queries)
        expected = separator(mixture, 22_050, **queries)
        np.testing.assert_allclose(found.target, expected.target, atol=1e-6)


def test_one_dimensional_in_one_dimensional_out(separator, query):
    mixture = noise(1, 5_000)
    flat = separate(separator.bundle, mixture[0], 16_000, query)
    assert flat.target.shape == (5_000,)
    stacked = separate(separator.bundle, mixture, 16_000, query)
    np.testing.assert_array_equal(flat.target, stacked.target[0])


@pytest.mark.parametrize(
    ("mixture", "rate", "message"),
    [
        (np.zeros((1, 2, 3)), 16_000, r"mixture has shape \(1, 2, 3\), expected"),
        (np.zeros((2, 0)), 16_000, r"mixture has shape \(2, 0\)"),
        (np.zeros(9, np.int16), 16_000, "mixture has dtype int16, expected floating"),
        (np.full(9, np.inf), 16_000, "mixture holds NaN or infinite samples"),
        (np.zeros(9), 3, "rate is 3, expected a whole number from 1000 to 768000"),
        (np.zeros(9), None, "rate is None, expected the mixture's sample rate"),
    ],
)
def test_bad_mixtures_are_named(separator, mixture, rate, message):
    with pytest.raises(ValueError, match=message):
        separator(mixture, rate, text="violin")


def test_no_query_is_named(separator):
    with pytest.raises(ValueError, match="query is empty, expected a text"):
        separator(np.zeros(9), 16_000)
