"""The front end against librosa, its own inverse and the grid's closed form."""

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from marssep_jax.config import FrontendConfig
from marssep_jax.features import (
    averaging_matrix,
    bin_positions,
    istft,
    make_frontend,
    row_positions,
    stft,
)

SMALL = FrontendConfig(num_samples=2_000, n_fft=256, hop=64, num_rows=48)


def _noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("num_samples", "n_fft", "hop"),
    [
        (65_535, 1024, 256),  # the published clip: exactly 256 frames
        (65_536, 1024, 256),  # one more sample, one more frame
        (5_000, 512, 160),  # a hop that does not divide the window
        (1_100, 256, 37),
        (2_001, 512, 512),
    ],
)
def test_stft_equals_librosa(num_samples, n_fft, hop):
    waveform = _noise(2, num_samples)
    ours = jax.jit(stft, static_argnums=(1, 2))(waveform, n_fft, hop)
    theirs = librosa.stft(
        waveform, n_fft=n_fft, hop_length=hop, center=True, pad_mode="constant"
    )
    assert ours.shape == theirs.shape == (2, n_fft // 2 + 1, 1 + num_samples // hop)
    assert ours.dtype == jnp.complex64
    # Two float32 FFTs of the same frames: rounding stays near 2e-7.
    assert np.abs(ours - theirs).max() <= 1e-6 * np.abs(theirs).max()


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 256), (512, 160)])
def test_istft_equals_librosa_on_spectra_of_no_signal(n_fft, hop):
    shape = (2, n_fft // 2 + 1, 20)
    spectrum = (_noise(*shape) + 1j * _noise(*shape, seed=1)).astype(np.complex64)
    # Real ends: what a real inverse does with imaginary DC and Nyquist is its own.
    spectrum[:, [0, -1]] = spectrum[:, [0, -1]].real
    length = 19 * hop
    ours = istft(jnp.asarray(spectrum), length, n_fft, hop)
    theirs = librosa.istft(spectrum, n_fft=n_fft, hop_length=hop, length=length)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize(
    ("num_samples", "hop"), [(1, 64), (63, 64), (256, 64), (1_023, 32), (4_000, 50)]
)
def test_inverse_gives_the_waveform_back(num_samples, hop):
    waveform = _noise(2, 3, num_samples)

    @jax.jit
    def there_and_back(waveform):
        return istft(stft(waveform, 256, hop), num_samples, 256, hop)

    # Noise peaks near 4; the envelope is at least 0.25 wherever a sample is kept.
    np.testing.assert_allclose(there_and_back(waveform), waveform, atol=1e-5)


def test_inverse_at_the_published_size():
    waveform = _noise(65_535)
    again = istft(stft(jnp.asarray(waveform)), 65_535)
    assert np.abs(again - waveform).max() <= 1e-5 * np.abs(waveform).max()


def test_what_no_frame_reaches_is_zero():
    spectrum = stft(jnp.ones(1_024), 256, 64)
    waveform = istft(spectrum, 2_000, 256, 64)
    assert waveform.shape == (2_000,)
    assert not np.any(waveform[1_024 + 128 :])


@pytest.mark.parametrize("average", [False, True])
def test_gradients_agree_with_finite_differences(average):
    frontend = make_frontend(
        FrontendConfig(
            num_samples=600, n_fft=64, hop=16, num_rows=20, average_rows=average
        )
    )
    with jax.enable_x64(True):
        draws = [_noise(600, seed=s).astype(np.float64) for s in range(3)]
        point, direction, probe = map(jnp.asarray, draws)

        @jax.jit
        def loss(waveform):
            features = frontend.analyse(waveform)
            mask = frontend.from_grid(jnp.tanh(0.1 * features.grid_magnitude))
            return jnp.vdot(probe, istft(mask * features.stft, 600, 64, 16))

        exact = jnp.vdot(jax.grad(loss)(point), direction)
        step = 1e-6 * direction
        slope = (loss(point + step) - loss(point - step)) / 2e-6
    # Double: rounding of 1e-14 over a step of 1e-6.
    np.testing.assert_allclose(exact, slope, rtol=1e-6)


def test_gradient_of_silence_is_finite():
    frontend = make_frontend(SMALL)
    grad = jax.jit(jax.grad(lambda w: jnp.sum(frontend.analyse(w).log_mag)))(
        jnp.zeros(2_000)
    )
    assert np.isfinite(grad).all()


def test_grid_is_omniseps():
    config = FrontendConfig()
    row, column = np.arange(256), np.arange(513)
    rows = row_positions(256, 513, config.warp_base)
    np.testing.assert_allclose(rows, 25.6 * (21 ** (row / 255) - 1), rtol=1e-12)
    bins = bin_positions(256, 513, config.warp_base)
    expected = 255 * np.log(1 + column / 25.6) / np.log(21)
    np.testing.assert_allclose(bins, expected, rtol=1e-12)


def test_warps_interpolate_between_neighbours():
    frontend = make_frontend(FrontendConfig())
    magnitude, mask = np.abs(_noise(513, 3)), np.abs(_noise(256, 3))
    rows = 25.6 * (21 ** (np.arange(256) / 255) - 1)
    bins = 255 * np.log(1 + np.arange(513) / 25.6) / np.log(21)
    for frame in range(3):
        for ours, reads, source in (
            (frontend.to_grid(jnp.asarray(magnitude)), rows, magnitude),
            (frontend.from_grid(jnp.asarray(mask)), bins, mask),
        ):
            expected = np.interp(reads, np.arange(len(source)), source[:, frame])
            np.testing.assert_allclose(ours[:, frame], expected, atol=2e-6)


def test_unwarp_inverts_warp_on_what_the_grid_resolves():
    frontend = make_frontend(FrontendConfig(num_rows=2_048))
    frequency = np.linspace(0, 6, 513)[:, None]
    smooth = jnp.asarray(2 + np.sin(frequency), jnp.float32)
    again = frontend.from_grid(frontend.to_grid(smooth))
    # Linear reading twice of a curve whose second difference is (6/512)^2.
    np.testing.assert_allclose(again, smooth, atol=1e-4)


def test_without_averaging_bins_are_skipped_and_with_it_none():
    matrix = averaging_matrix(row_positions(256, 513, 21.0), 513)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-12)
    assert (matrix >= 0).all()
    assert (matrix.sum(axis=0) > 0).all()
    plain = make_frontend(FrontendConfig()).to_grid(jnp.eye(513))
    assert int((plain.sum(axis=0) == 0).sum()) == 175  # as counted on OmniSep's
    averaged = make_frontend(FrontendConfig(average_rows=True)).to_grid(jnp.eye(513))
    np.testing.assert_allclose(averaged, matrix, atol=1e-6)


def test_averaging_is_interpolation_where_rows_are_finer_than_bins():
    config = FrontendConfig()
    plain = make_frontend(config).to_grid(jnp.eye(513))
    averaged = averaging_matrix(row_positions(256, 513, 21.0), 513)
    # The warp passes one bin per row at row 99.
    np.testing.assert_allclose(averaged[:98], plain[:98], atol=1e-5)


def test_averaging_gives_every_row_of_a_mask_a_say():
    frontend = make_frontend(FrontendConfig(average_rows=True))
    weight = frontend.from_grid(jnp.eye(256))
    np.testing.assert_allclose(weight.sum(axis=1), 1, atol=1e-5)
    assert (weight.sum(axis=0) > 0).all()


@pytest.mark.parametrize("average", [False, True])
def test_features_hold_together(average):
    config = FrontendConfig(
        num_samples=2_000, n_fft=256, hop=64, num_rows=48, average_rows=average
    )
    frontend = make_frontend(config)
    features = jax.jit(frontend.analyse)(jnp.asarray(_noise(2, 3, 3_000)))
    # 3,000 samples rather than the configured 2,000: the columns follow.
    assert features.stft.shape == (2, 3, 129, 47)
    assert features.grid_magnitude.shape == features.log_mag.shape == (2, 3, 48, 47)
    expected = frontend.to_grid(jnp.abs(features.stft) + config.log_floor)
    np.testing.assert_allclose(features.grid_magnitude, expected, rtol=1e-5)
    np.testing.assert_allclose(
        features.log_mag, np.log(features.grid_magnitude), atol=1e-5
    )


def test_silence_sits_on_the_log_floor():
    log_mag = make_frontend(SMALL).analyse(jnp.zeros(2_000)).log_mag
    np.testing.assert_allclose(log_mag, np.log(1e-10), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stft(jnp.zeros(0)), r"waveform has shape \(0,\)"),
        (lambda: stft(jnp.zeros(9, jnp.int16)), "dtype int16, expected floating"),
        (lambda: stft(jnp.zeros(9), 8, 9), r"\(n_fft, hop\) is \(8, 9\)"),
        (lambda: stft(jnp.zeros(9), 7, 2), r"\(n_fft, hop\) is \(7, 2\)"),
        (lambda: istft(jnp.zeros((5, 2)), 9), r"stft has shape \(5, 2\)"),
        (lambda: istft(jnp.zeros((5, 2)), 0, 8, 2), "length is 0"),
        (lambda: make_frontend(FrontendConfig(num_rows=1)), "num_rows is 1"),
        (lambda: make_frontend(FrontendConfig(warp_base=1.0)), "warp_base is 1.0"),
        (lambda: make_frontend(SMALL).to_grid(jnp.zeros((9, 2))), r"\(9, 2\).*129"),
        (lambda: make_frontend(SMALL).from_grid(jnp.zeros((9, 2))), r"\(9, 2\).*48"),
    ],
)
def test_bad_input_is_named_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
