"""From masks back to waveforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.config import FrontendConfig
from marssep_jax.features import istft, make_frontend
from marssep_jax.reconstruct import apply_mask, make_reconstruct, mixture_consistency

LENGTH = 2_000
FRONTEND = make_frontend(
    FrontendConfig(num_samples=LENGTH, n_fft=256, hop=64, num_rows=48)
)


def _noise(*shape, seed=0):
    draws = np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(draws, jnp.float32)


def _mask(*shape, seed=0):
    draws = np.random.default_rng(seed).uniform(size=(*shape, 48, 32))
    return jnp.asarray(draws, jnp.float32)


@pytest.fixture(scope="module")
def mixture():
    return _noise(2, LENGTH)


@pytest.fixture(scope="module")
def stft(mixture):
    return FRONTEND.analyse(mixture).stft


def test_mask_of_ones_gives_the_mixture_and_zeros_silence(mixture, stft):
    reconstruct = jax.jit(make_reconstruct(FRONTEND, LENGTH))
    level = jnp.array([1.0, 0.0, 0.5]).reshape(1, 1, 3, 1, 1)
    mask = jnp.broadcast_to(level, (2, 2, 3, 48, 32))
    waveform = reconstruct(mask, stft)
    assert waveform.shape == (2, 2, 3, LENGTH)
    for b in range(2):
        for k in range(2):
            for g, scale in enumerate((1.0, 0.0, 0.5)):
                expected = scale * mixture[b]
                # Perfect reconstruction in float32 of noise that peaks near 4.
                np.testing.assert_allclose(waveform[b, k, g], expected, atol=1e-5)


def test_each_mask_meets_its_own_mixture(stft):
    mask = _mask(2, 3, 4)
    together = jax.jit(make_reconstruct(FRONTEND, LENGTH))(mask, stft)
    for b, k, g in ((0, 0, 0), (1, 2, 3), (0, 1, 2)):
        masked = FRONTEND.from_grid(mask[b, k, g]) * stft[b]
        alone = istft(masked, LENGTH, 256, 64)
        np.testing.assert_allclose(together[b, k, g], alone, atol=1e-5)


def test_complementary_masks_sum_to_the_mixture(mixture, stft):
    first = _mask(2, 1)
    mask = jnp.concatenate([first, 1 - first], axis=1)
    estimate = make_reconstruct(FRONTEND, LENGTH)(mask, stft)
    np.testing.assert_allclose(estimate.sum(axis=1), mixture, atol=2e-5)


def test_phase_is_the_mixtures(stft):
    masked = apply_mask(FRONTEND, _mask(2, 2), stft)
    assert masked.shape == (2, 2, 129, 32)
    inner = masked * jnp.conj(stft)[:, None]
    np.testing.assert_allclose(inner.imag, 0, atol=1e-5 * float(jnp.abs(inner).max()))
    assert float(inner.real.min()) >= 0


def test_gradient_reaches_the_mask(stft):
    reconstruct = make_reconstruct(FRONTEND, LENGTH)
    probe, mask, direction = _noise(2, 1, LENGTH), _mask(2, 1), _mask(2, 1, seed=1)

    @jax.jit
    def loss(mask):
        return jnp.vdot(probe, reconstruct(mask, stft))

    exact = jnp.vdot(jax.grad(loss)(mask), direction)
    # The map is linear, so a difference over any step is exact up to rounding.
    np.testing.assert_allclose(exact, loss(mask + direction) - loss(mask), rtol=1e-3)


@pytest.mark.parametrize("by_energy", [False, True])
def test_consistent_estimates_sum_to_the_mixture(mixture, by_energy):
    estimate = _noise(2, 3, 4, LENGTH, seed=3)
    fixed = mixture_consistency(estimate, mixture, by_energy=by_energy)
    assert fixed.shape == estimate.shape
    expected = jnp.broadcast_to(mixture[:, None], (2, 4, LENGTH))
    np.testing.assert_allclose(fixed.sum(axis=1), expected, atol=1e-5)
    again = mixture_consistency(fixed, mixture, by_energy=by_energy)
    np.testing.assert_allclose(again, fixed, atol=1e-5)


def test_energy_weights_spare_the_silent_estimate():
    estimate = jnp.stack([jnp.ones(8), jnp.zeros(8)])[None]
    fixed = mixture_consistency(estimate, 3 * jnp.ones((1, 8)), by_energy=True)
    np.testing.assert_allclose(fixed[0, 0], 3, rtol=1e-6)
    np.testing.assert_allclose(fixed[0, 1], 0, atol=1e-6)
    even = mixture_consistency(estimate, 3 * jnp.ones((1, 8)))
    np.testing.assert_allclose(even[0, :, 0], [2, 1], rtol=1e-6)


@pytest.mark.parametrize("by_energy", [False, True])
def test_all_silent_estimates_share_the_mixture(by_energy):
    fixed = mixture_consistency(
        jnp.zeros((1, 2, 8)), jnp.ones((1, 8)), by_energy=by_energy
    )
    np.testing.assert_allclose(fixed, 0.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("mask_shape", "stft_shape", "length", "message"),
    [
        ((2, 1, 48, 31), (2, 129, 32), LENGTH, "31 columns"),
        ((3, 1, 48, 32), (2, 129, 32), LENGTH, r"mask has shape \(3, 1, 48, 32\)"),
        ((2, 1, 47, 32), (2, 129, 32), LENGTH, r"expected \[..., 48, N\]"),
        ((2, 1, 48, 32), (2, 129, 32), 31 * 64 + 129, "length is 2113"),
        ((2, 1, 48, 32), (2, 129, 32), 0, "length is 0"),
    ],
)
def test_bad_input_is_named(mask_shape, stft_shape, length, message):
    with pytest.raises(ValueError, match=message):
        make_reconstruct(FRONTEND, length)(
            jnp.zeros(mask_shape), jnp.zeros(stft_shape, jnp.complex64)
        )


def test_consistency_names_a_wrong_mixture():
    with pytest.raises(ValueError, match=r"mixture has shape \(2, 7\)"):
        mixture_consistency(jnp.zeros((2, 1, 8)), jnp.zeros((2, 7)))
