"""Separation of whole waveforms and of streams, with a tiny untrained model."""

import functools
import itertools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.audio import write_audio
from marssep_jax.bundle import save_bundle
from marssep_jax.config import FrontendConfig, to_dict
from marssep_jax.features import istft, stft
from marssep_jax.hearing import score
from marssep_jax.inference import Separator, separate
from marssep_jax.queries import QueryItem
from marssep_jax.streaming import make_mask_fn
from marssep_jax.transfer import make_transfer, read_columns
from marssep_jax.untrained import FRONTEND, SEPARATOR, untrained_bundle

# Windows of 0.256 s, so this holds a dozen of them.
LENGTH_S = 2.0


@functools.cache
def tiny_bundle():
    return untrained_bundle()


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
    assert found.estimate.shape == found.residual.shape == mixture.shape
    assert found.estimate.dtype == found.residual.dtype == np.float32
    # One float32 subtraction and one addition.
    np.testing.assert_allclose(found.estimate + found.residual, mixture, atol=1e-7)
    assert 0.05 < np.std(found.estimate) / np.std(mixture) < 0.95
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
    np.testing.assert_allclose(found.estimate, 0.25 * mixture, atol=1e-6)
    np.testing.assert_allclose(found.mask, 0.25, atol=1e-6)


def test_channels_share_one_mask(separator, query):
    left = noise(1, 20_000)
    scales = np.array([[1.0], [0.5], [-0.25]], np.float32)
    found = separate(separator.bundle, scales * left, 22_050, query)
    # Equal masks keep proportions; scaling by powers of two is exact.
    np.testing.assert_allclose(found.estimate, scales * found.estimate[:1], atol=1e-7)


def test_a_mask_for_each_channel_if_asked(separator, query):
    left, right = noise(1, 20_000), noise(1, 20_000, seed=1)
    stereo = np.concatenate([left, right])
    found = separate(separator.bundle, stereo, 22_050, query, per_channel=True)
    alone = [separate(separator.bundle, one, 22_050, query) for one in (left, right)]
    np.testing.assert_array_equal(
        found.estimate, np.concatenate([one.estimate for one in alone])
    )
    np.testing.assert_array_equal(found.mask, np.stack([one.mask for one in alone]))
    together = separate(separator.bundle, stereo, 22_050, query)
    assert np.abs(together.estimate - found.estimate).max() > 1e-4


def test_blocks_do_not_change_the_result(separator, query):
    mixture = noise(2, 30_000)
    whole = separate(separator.bundle, mixture, 44_100, query)
    for size in (1_000, 7_777):
        blocks = [mixture[:, i : i + size] for i in range(0, 30_000, size)]
        parts = list(separator.stream(blocks, 44_100, query))
        streamed = np.concatenate([part.estimate for part in parts], axis=1)
        np.testing.assert_array_equal(streamed, whole.estimate)
        mask = np.concatenate([part.mask for part in parts], axis=1)
        np.testing.assert_array_equal(mask, whole.mask)


@pytest.mark.parametrize(("rate", "mask"), [(11_025, "mode"), (44_100, "sample")])
def test_windows_leave_no_joins(separator, query, rate, mask):
    """Half a minute in 150 windows, against one transform with the same mask."""
    mixture = noise(1, 30 * rate)
    options = {"mask": mask, "window_batch": 4}
    found = separate(separator.bundle, mixture, rate, query, **options)
    transfer = make_transfer(FRONTEND, rate)
    n_fft, hop = transfer.plan.n_fft, transfer.plan.hop
    frames = np.arange(1 + mixture.shape[1] // hop)
    columns = read_columns(found.mask, transfer.plan.columns_of(frames))
    gain = transfer.spread(jnp.asarray(columns[None]))
    whole = istft(gain * stft(mixture, n_fft, hop), mixture.shape[1], n_fft, hop)
    error = np.mean((found.estimate - whole) ** 2) / np.mean(whole**2)
    assert 10 * np.log10(error) < -100
    assert found.mask.std() > 0.02  # there is something to join


def test_endless_stream_flows(separator, query):
    """Output follows input at once: nothing waits for the end."""
    taken = itertools.count()
    block = noise(1, 4_096)

    def endless():
        while True:
            next(taken)
            yield block

    stream = separator.stream(endless(), 16_000, query)
    num_out = sum(part.estimate.shape[1] for part in itertools.islice(stream, 50))
    num_in = next(taken) * 4_096
    assert 0 < num_in - num_out <= 2 * 4_096


def test_memory_does_not_grow_with_the_recording(separator, query):
    """NumPy's memory, that is; JAX's holds one window at a time."""

    def peak(num_blocks):
        blocks = (noise(2, 8_192) for _ in range(num_blocks))
        tracemalloc.start()
        for _ in separator.stream(blocks, 44_100, query):
            pass
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    peak(2)  # what is made once
    assert peak(200) < 1.3 * peak(10)


def test_windows_together_or_one_by_one(separator, query):
    mixture = noise(1, 30_000)
    alone = separate(separator.bundle, mixture, 16_000, query, window_batch=1)
    batched = separate(separator.bundle, mixture, 16_000, query, window_batch=4)
    # The network sums in another order at another batch size: float32 rounding.
    np.testing.assert_allclose(alone.estimate, batched.estimate, atol=1e-5)


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
    quiet = separate(separator.bundle, mixture, 16_000, query).estimate
    loud = separate(separator.bundle, 4 * mixture, 16_000, query).estimate
    # The network sees levels relative to the clip's; only the log floor differs.
    np.testing.assert_allclose(loud, 4 * quiet, atol=1e-4)


def test_removal_alone_leaves_the_rest(separator):
    mixture = noise(1, 9_000)
    kept = separator(mixture, 16_000, remove="violin")
    violin = separator(mixture, 16_000, text="violin")
    np.testing.assert_allclose(kept.estimate, violin.residual, atol=1e-6)


def test_negative_query_changes_the_mask(separator):
    mixture = noise(1, 9_000)
    plain = separator(mixture, 16_000, text="violin")
    less = separator(mixture, 16_000, text="violin", remove={"text": ["flute"]})
    assert np.abs(plain.mask - less.mask).max() > 1e-4


def test_silence_stays_silent(separator, query):
    found = separate(separator.bundle, np.zeros((2, 9_000)), 44_100, query)
    assert not found.estimate.any()
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
        np.testing.assert_allclose(found.estimate, expected.estimate, atol=1e-6)


def test_files_stream_by_themselves(separator, tmp_path):
    mixture = noise(2, 30_000)
    write_audio(tmp_path / "a.wav", mixture, 22_050)
    query = separator.compose([QueryItem("text", "harp", 2.0)])
    expected = separate(separator.bundle, mixture, 22_050, query)
    with open(tmp_path / "a.wav", "rb") as opened:
        for source in (str(tmp_path / "a.wav"), opened):
            parts = list(separator.stream(source, text="harp"))
            assert len(parts) > 3
            estimate = np.concatenate([part.estimate for part in parts], axis=1)
            np.testing.assert_array_equal(estimate, expected.estimate)
        opened.seek(0)
        whole = separator(opened, query=query)
    np.testing.assert_array_equal(whole.estimate, expected.estimate)


def test_nothing_comes_of_no_blocks(separator, query):
    assert list(separator.stream([], 16_000, query)) == []
    assert list(separator.stream([], 16_000, query, per_channel=True)) == []


def test_models_are_found_by_name(separator, tmp_path, monkeypatch):
    save_bundle(tmp_path / "models" / "tiny", separator.bundle)
    monkeypatch.setenv("MARSSEP_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    assert Separator.load("tiny").bundle.config["stage"] == "untrained"
    with pytest.raises(ValueError, match=r"'huge'.*no such folder, and the names are"):
        Separator.load("huge")
    # What lies here goes before what has the name, and a path is no name.
    (tmp_path / "tiny").mkdir()
    for path in ("tiny", "./tiny", "../models/tiny"):
        with pytest.raises(ValueError, match="expected the folder of a trained model"):
            Separator.load(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.wav", 16_000), "rate is 16000, expected none for a file"),
        (([], None), "rate is None, expected the mixture's sample rate"),
        (("no.wav",), "mixture is 'no.wav', expected an existing file"),
    ],
)
def test_bad_streams_are_named(separator, arguments, message):
    with pytest.raises((ValueError, OSError), match=message):
        next(separator.stream(*arguments, text="violin"))


def test_one_way_of_asking(separator, query):
    with pytest.raises(ValueError, match="remove is given beside query"):
        separator(noise(1, 900), 16_000, query=query, remove="flute")


def test_one_dimensional_in_one_dimensional_out(separator, query):
    mixture = noise(1, 5_000)
    flat = separate(separator.bundle, mixture[0], 16_000, query)
    assert flat.estimate.shape == (5_000,)
    stacked = separate(separator.bundle, mixture, 16_000, query)
    np.testing.assert_array_equal(flat.estimate, stacked.estimate[0])


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


def test_mean_mask_is_the_policys_mean(separator, query):
    mixture = noise(1, 9_000)
    mode = separate(separator.bundle, mixture, 16_000, query)
    mean = separate(separator.bundle, mixture, 16_000, query, mask="mean")
    np.testing.assert_allclose(mean.mask, (1 + 9 * mode.mask) / 11, atol=1e-6)


def test_sampled_masks_follow_seed_and_policy(separator, query):
    mixture = noise(1, 30_000)
    sample = functools.partial(separate, separator.bundle, mixture, 16_000, query)
    mode = sample()
    first, again, other = (sample(mask="sample", seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.mask, again.mask)
    assert np.abs(first.mask - other.mask).max() > 0.1
    # Means over tens of thousands of bins; a Beta's spread is below 0.15.
    mean = (1 + 9 * mode.mask) / 11
    assert abs(float((first.mask - mean).mean())) < 0.01
    together = sample(mask="sample", seed=3, window_batch=4)
    np.testing.assert_allclose(together.estimate, first.estimate, atol=1e-5)
    np.testing.assert_allclose(first.estimate + first.residual, mixture, atol=1e-6)


def test_sampled_masks_have_the_patches_they_were_reinforced_with(separator, query):
    policy = {"kappa": 9.0, "family": "patch_beta", "action_patch": [4, 4]}
    bundle = separator.bundle
    bundle = bundle._replace(config=bundle.config | {"policy": policy})
    mask = separate(bundle, noise(1, 3_000), 16_000, query, mask="sample").mask
    blocks = mask[:, :8].reshape(8, 4, 2, 4)
    np.testing.assert_array_equal(blocks, blocks[:, :1, :, :1] + 0 * blocks)


def test_other_masks_are_named(separator):
    with pytest.raises(ValueError, match="mask is 'median', expected one of"):
        separator(noise(1, 9_000), 16_000, text="violin", mask="median")


def test_scores_are_cosines_and_a_share(separator):
    mixture = noise(2, 9_000)
    found = separator(mixture, 16_000, text="violin")
    asked = separator.embed(text="violin").embedding
    for name, waveform in (
        ("similarity", found.estimate),
        ("mixture_similarity", mixture),
    ):
        heard = separator.embed(audio=(waveform, 16_000)).embedding
        expected = float(jnp.dot(heard, asked))
        assert found.scores[name] == pytest.approx(expected, abs=1e-5)
    share = np.mean(found.estimate**2) / np.mean(mixture**2)
    assert found.scores["energy_share"] == pytest.approx(share, rel=1e-5)


def test_scores_of_a_removal_are_of_what_was_removed(separator):
    mixture = noise(1, 9_000)
    kept = separator(mixture, 16_000, remove="violin")
    violin = separator(mixture, 16_000, text="violin")
    assert kept.scores["similarity"] == pytest.approx(
        violin.scores["similarity"], abs=1e-4
    )


def test_scores_of_silence(separator, query):
    silence = np.zeros((1, 9_000), np.float32)
    found = separate(separator.bundle, silence, 16_000, query)
    scores = score(separator.bundle, silence, found, 16_000, query)
    assert scores == {"similarity": 0.0, "mixture_similarity": 0.0, "energy_share": 0.0}
