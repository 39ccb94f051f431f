"""BSS-eval against mir_eval, museval's numbers and an explicit least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from marssep_jax.metrics import bss_eval
from marssep_jax.metrics.split import NUM_TOGETHER
from marssep_jax.metrics.toeplitz import invert, multiply, solve
from tests.support.bss_signals import SIGNALS, as_mir_eval, mix, white

METHODS = pytest.mark.parametrize("method", ["direct", "descent"])


@pytest.mark.parametrize("make", SIGNALS)
def test_sources_variant_equals_mir_eval(make):
    targets = make(np.random.default_rng(1)).astype(np.float32)
    estimates = mix(targets).astype(np.float32)
    expected = as_mir_eval(*(x.astype(np.float64) for x in (estimates, targets)))
    for method, tolerance_db in (("direct", 1e-4), ("descent", 0.02)):
        pair = jnp.asarray(estimates), jnp.asarray(targets)
        single = bss_eval(*pair, "sources", method=method)
        assert single.sdr.dtype == jnp.float32
        np.testing.assert_allclose(single, expected, atol=tolerance_db)
    with jax.enable_x64(True):
        double = bss_eval(
            jnp.asarray(estimates, jnp.float64),
            jnp.asarray(targets, jnp.float64),
            "sources",
        )
        assert double.sdr.dtype == jnp.float64
    np.testing.assert_allclose(double, expected, atol=1e-3)


def _projection(signal, references, num_taps):
    """Return the least-squares projection, from the delays written out."""
    length = signal.size + num_taps - 1
    delays = [
        np.pad(row, (delay, num_taps - 1 - delay))
        for row in references
        for delay in range(num_taps)
    ]
    matrix = np.array(delays).T
    padded = np.pad(signal, (0, num_taps - 1))
    solution = np.linalg.lstsq(matrix, padded, rcond=None)[0]
    assert matrix.shape[0] == length
    return matrix @ solution, padded


@METHODS
@pytest.mark.parametrize("num_taps", [1, 24])
@pytest.mark.parametrize("num_sources", [1, 2, 3])
def test_both_variants_equal_explicit_least_squares(num_sources, num_taps, method):
    rng = np.random.default_rng(2)
    shape = (num_sources, 400)
    targets = rng.standard_normal(shape)
    estimates = mix(targets, noise=0.3)
    with jax.enable_x64(True):
        pair = jnp.asarray(estimates), jnp.asarray(targets)
        images = bss_eval(*pair, "images", num_taps=num_taps, method=method)
        sources = bss_eval(*pair, "sources", num_taps=num_taps, method=method)

    def decibel(signal, noise):
        return 10 * np.log10((signal @ signal) / (noise @ noise))

    for j in range(num_sources):
        own, padded = _projection(estimates[j], targets[j : j + 1], num_taps)
        every, _ = _projection(estimates[j], targets, num_taps)
        snr = decibel(targets[j], estimates[j] - targets[j])
        sar = decibel(every, padded - every)
        np.testing.assert_allclose(images.sdr[j], snr, atol=1e-9)
        np.testing.assert_allclose(
            sources.sdr[j], decibel(own, padded - own), atol=1e-6
        )
        for result in (images, sources):
            np.testing.assert_allclose(result.sar[j], sar, atol=1e-6)
            sir = decibel(own, every - own) if num_sources > 1 else 200.0
            np.testing.assert_allclose(result.sir[j], sir, atol=1e-6)


@METHODS
def test_images_variant_equals_museval(method):
    rng = np.random.default_rng(20)
    targets, noise = white(rng), white(rng)
    estimates = np.stack(
        [
            targets[0] + 0.3 * targets[1] + 0.1 * noise[0],
            0.5 * np.roll(targets[1], 3) + 0.2 * targets[0] + 0.05 * noise[1],
        ]
    )
    # museval 0.4.1, bss_eval with one infinite window, 512 taps, images version.
    expected = [
        [9.9569751971, -1.139544894],
        [10.6094976776, 8.3485518042],
        [20.8695037974, 21.0278191146],
    ]
    single = bss_eval(
        *(jnp.asarray(x, jnp.float32) for x in (estimates, targets)), method=method
    )
    np.testing.assert_allclose(single, expected, atol=1e-3)
    with jax.enable_x64(True):
        double = bss_eval(jnp.asarray(estimates), jnp.asarray(targets), method=method)
    np.testing.assert_allclose(double, expected, atol=1e-8)


def test_nearly_equal_targets_equal_an_orthogonal_least_squares():
    """Targets 1e-6 apart, where normal equations of condition 1e12 lose digits."""
    rng = np.random.default_rng(21)
    first, other = rng.standard_normal((2, 600))
    targets = np.stack([first, first + 1e-6 * other])
    estimates = mix(targets, noise=0.3)
    with jax.enable_x64(True):
        pair = jnp.asarray(estimates), jnp.asarray(targets)
        found = bss_eval(*pair, "sources", num_taps=24)
    own, padded = _projection(estimates[0], targets[:1], 24)
    # Unit columns: lstsq then cuts nothing off.
    difference = (targets[1] - targets[0]) / 1e-6
    every, _ = _projection(estimates[0], np.stack([targets[0], difference]), 24)
    sir = 10 * np.log10(np.sum(own**2) / np.sum((every - own) ** 2))
    sar = 10 * np.log10(np.sum(every**2) / np.sum((padded - every) ** 2))
    np.testing.assert_allclose([found.sir[0], found.sar[0]], [sir, sar], atol=1e-3)


@METHODS
def test_batch_axes_are_free_and_do_not_mix(method):
    rng = np.random.default_rng(3)
    targets = rng.standard_normal((3, 2, 2, 1_000)).astype(np.float32)
    estimates = targets + 0.3 * rng.standard_normal(targets.shape).astype(np.float32)
    together = jax.jit(lambda e, s: bss_eval(e, s, num_taps=32, method=method))(
        estimates, targets
    )
    assert together.sir.shape == (3, 2, 2)
    alone = bss_eval(
        jnp.asarray(estimates[2, 1]), jnp.asarray(targets[2, 1]), num_taps=32
    )
    # Other batch sizes, other orders of float32 sums.
    np.testing.assert_allclose(np.stack(together)[:, 2, 1], np.stack(alone), atol=1e-3)


@METHODS
def test_sources_stay_in_the_given_order_whatever_their_level(method):
    rng = np.random.default_rng(4)
    targets = white(rng)[:, :1_000] * np.array([[1], [1e-3]])
    # The loud one hears the quiet one at a tenth of its level; not so the other.
    estimates = targets * np.array([[1.2], [0.9]])
    estimates[0] += 120 * targets[1]
    pair = [jnp.asarray(x, jnp.float32) for x in (estimates, targets)]
    result = bss_eval(*pair, "sources", num_taps=32, method=method)
    swapped = bss_eval(*(x[::-1] for x in pair), "sources", num_taps=32, method=method)
    np.testing.assert_allclose(result.sir[0], swapped.sir[1], atol=1e-3)
    # 20 dB; 32 free taps of 1,000 take a few hundredths by chance.
    np.testing.assert_allclose(result.sir[0], 20, atol=0.5)
    assert result.sir[1] > 100
    assert swapped.sir[0] > 100


@METHODS
@pytest.mark.parametrize("variant", ["images", "sources"])
def test_silence_gives_the_documented_values(variant, method):
    sound = jnp.asarray(np.random.default_rng(5).standard_normal((2, 1_000)))
    sound = sound.astype(jnp.float32)
    silent = jnp.zeros_like(sound)

    def evaluate(estimates, targets):
        return np.stack(
            bss_eval(estimates, targets, variant, num_taps=32, method=method)
        )

    half = jnp.stack([sound[0], silent[0]])
    result = evaluate(sound[::-1], half)
    assert np.isfinite(result).all()
    assert result[:2, 1].tolist() == [-200, -200]
    # The silent target leaves the other's values alone.
    alone = evaluate(sound[1:], sound[:1])
    np.testing.assert_allclose(result[[0, 2], 0], alone[[0, 2], 0], atol=1e-3)
    assert result[1, 0] > 100  # nothing to interfere, up to rounding
    # A silent target met by a silent estimate.
    np.testing.assert_array_equal(evaluate(half, half)[:, 1], 0)
    # A silent estimate of an audible target.
    np.testing.assert_allclose(evaluate(half, sound)[:, 1], 0, atol=1e-5)
    np.testing.assert_array_equal(evaluate(silent, silent), 0)


@METHODS
def test_perfect_estimates_are_very_good_and_equal_targets_no_trouble(method):
    sound = jnp.asarray(np.random.default_rng(6).standard_normal((2, 1_000)))
    sound = sound.astype(jnp.float32)
    perfect = np.stack(bss_eval(sound, sound, num_taps=32, method=method))
    assert perfect[0].tolist() == [200, 200]
    assert (perfect[1:] > 110).all()
    twins = sound[:1].repeat(2, axis=0)
    result = np.stack(bss_eval(twins + 0.1 * sound, twins, num_taps=32, method=method))
    assert np.isfinite(result).all()
    # Each other's delays are its own: no interference beyond rounding.
    assert (result[1] > 90).all()


@METHODS
def test_nan_comes_out_as_nan_and_comes_out(method):
    sound = jnp.asarray(
        np.random.default_rng(10).standard_normal((2, 1_000)), "float32"
    )
    result = bss_eval(sound.at[0, 7].set(jnp.nan), sound, num_taps=32, method=method)
    assert np.isnan(np.stack(result)[:, 0]).all()
    assert np.isfinite(np.stack(result)[:, 1]).all()
    # In a target it reaches every projection; the search for a ridge still ends.
    result = bss_eval(sound, sound.at[0, 7].set(jnp.nan), num_taps=32, method=method)
    assert np.isnan(result.sar).all()


@pytest.mark.parametrize("num_signals", [1, 2, 3])
def test_toeplitz_inverse_equals_the_dense_one(num_signals):
    rng = np.random.default_rng(7)
    num_lags, length = 40, 300
    with jax.enable_x64(True):
        signals = rng.standard_normal((num_signals, length))
        signals /= np.linalg.norm(signals, axis=1, keepdims=True)
        correlation = np.array(
            [
                [np.correlate(b, a, "full")[length - 1 :][:num_lags] for b in signals]
                for a in signals
            ]
        )
        dense = np.empty((num_signals, num_lags, num_signals, num_lags))
        for i in range(num_signals):
            for j in range(num_signals):
                dense[i, :, j] = scipy.linalg.toeplitz(
                    correlation[i, j], correlation[j, i]
                )
        right = rng.standard_normal((5, num_signals, num_lags))
        ours = solve(invert(jnp.asarray(correlation)), jnp.asarray(right))
        size = num_signals * num_lags
        matrix, rows = dense.reshape(size, size), right.reshape(5, -1)
        product = multiply(jnp.asarray(correlation), jnp.asarray(right))
    expected = np.linalg.solve(matrix, rows.T).T
    np.testing.assert_allclose(ours.reshape(5, -1), expected, atol=1e-9)
    np.testing.assert_allclose(product.reshape(5, -1), rows @ matrix.T, atol=1e-12)


def test_a_silent_estimate_beside_one_that_takes_many_steps():
    first, other = np.random.default_rng(13).standard_normal((2, 600))
    targets = np.stack([first, first + 1e-5 * other]).astype(np.float32)
    estimates = np.stack([mix(targets)[0], np.zeros(600)]).astype(np.float32)
    pair = jnp.asarray(estimates), jnp.asarray(targets)
    found = np.stack(bss_eval(*pair, "sources", num_taps=24, method="direct"))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[1:, 1], 0, atol=1e-5)


def test_groups_on_many_cores_equal_each_mixture_alone():
    rng = np.random.default_rng(11)
    targets = rng.standard_normal((NUM_TOGETHER + 1, 2, 900)).astype(np.float32)
    noise = 0.1 * rng.standard_normal(targets.shape).astype(np.float32)
    estimates = jnp.asarray(targets + 0.3 * targets[:, ::-1] + noise)
    together = bss_eval(estimates, jnp.asarray(targets), num_taps=32)
    for row in (0, NUM_TOGETHER):
        alone = bss_eval(estimates[row], jnp.asarray(targets[row]), num_taps=32)
        np.testing.assert_allclose(np.stack(together)[:, row], alone, rtol=1e-5)


def test_direct_is_in_double_precision_without_leaving_it_on():
    rng = np.random.default_rng(12)
    first, other = rng.standard_normal((2, 600))
    targets = np.stack([first, first + 1e-4 * other]).astype(np.float32)
    estimates = mix(targets).astype(np.float32)
    single = bss_eval(
        jnp.asarray(estimates), jnp.asarray(targets), num_taps=24, method="direct"
    )
    assert single.sir.dtype == jnp.float32
    assert jnp.zeros(1).dtype == jnp.float32
    with jax.enable_x64(True):
        pair = (jnp.asarray(x, jnp.float64) for x in (estimates, targets))
        double = bss_eval(*pair, num_taps=24, method="descent")
    # Normal equations of condition 1e8 in float32 would be off by decibels.
    np.testing.assert_allclose(single, double, atol=1e-4)


def test_toeplitz_inverse_survives_a_singular_matrix():
    # One pure tone: rank 2 of 64, which no float32 recursion takes without a ridge.
    tone = np.cos(0.3 * np.arange(64)).astype(np.float32)[None, None]
    right = jnp.asarray(np.random.default_rng(8).standard_normal((1, 1, 64)), "float32")
    answer = solve(invert(jnp.asarray(tone)), right)
    assert np.isfinite(answer).all()
    assert jnp.vdot(answer, right) > 0


@pytest.mark.parametrize(
    ("estimates", "targets", "variant", "message"),
    [
        (jnp.zeros((2, 9)), jnp.zeros((2, 9)), "v3", "variant is 'v3'"),
        (jnp.zeros((2, 9)), jnp.zeros((1, 9)), "images", r"shape \(2, 9\).*\(1, 9\)"),
        (jnp.zeros(9), jnp.zeros(9), "images", r"shape \(9,\)"),
        (jnp.zeros((2, 0)), jnp.zeros((2, 0)), "images", r"shape \(2, 0\)"),
        (jnp.zeros((2, 9), int), jnp.zeros((2, 9), int), "images", "dtype int"),
    ],
)
def test_bad_input_is_named(estimates, targets, variant, message):
    with pytest.raises(ValueError, match=message):
        bss_eval(estimates, targets, variant)
