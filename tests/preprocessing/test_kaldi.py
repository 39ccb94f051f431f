"""ImageBind's log-mel: golden numbers, Kaldi's own code, gradients."""

import jax
import jax.numpy as jnp
import kaldi_native_fbank
import numpy as np
import pytest

from marssep_jax.preprocessing.kaldi import (
    DEVIATION,
    ENERGY_FLOOR,
    MEAN,
    imagebind_log_mel,
    imagebind_log_mel_host,
    kaldi_log_mel,
)

FLOOR = (np.log(ENERGY_FLOOR) - MEAN) / DEVIATION
PADDING = -MEAN / DEVIATION

compiled = jax.jit(imagebind_log_mel)


def test_published_front_end_s_numbers(two_tones):
    log_mel = imagebind_log_mel_host(two_tones(16_000, 32_000))
    assert log_mel.shape == (128, 204)
    assert log_mel.dtype == np.float32
    expected = {
        (0, 0): -1.1884,
        (3, 0): -1.2776,
        (24, 0): 0.7423,
        (24, 100): 0.7423,
        (80, 50): -0.4241,
        (127, 197): -1.2776,
        (10, 203): 0.4671,
    }
    for place, value in expected.items():
        assert log_mel[place] == pytest.approx(value, abs=6e-5)  # 4 digits given
    assert log_mel.mean() == pytest.approx(-0.855745, abs=1e-6)
    assert log_mel.std() == pytest.approx(0.618124, abs=1e-6)


def test_filter_bank_equals_kaldi_s(two_tones, noise):
    # Kaldi's code refuses 128 rows, where one triangle is empty.
    waveform = two_tones(16_000, 8_000) + noise(8_000)
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hanning"
    options.mel_opts.num_bins = 64
    options.energy_floor = 0.0
    options.use_energy = False
    kaldi = kaldi_native_fbank.OnlineFbank(options)
    kaldi.accept_waveform(16_000, waveform.astype(np.float32).tolist())
    kaldi.input_finished()
    theirs = np.stack([kaldi.get_frame(i) for i in range(kaldi.num_frames_ready)])
    ours = kaldi_log_mel(waveform, 64)
    assert ours.shape == theirs.shape == (48, 64)
    # Theirs is float32: the quietest bins of a frame round at 1e-7 of its loudest.
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert np.abs(ours - theirs).mean() < 1e-5


@pytest.mark.parametrize("num_samples", [1, 399, 400, 559, 560, 32_000, 40_000])
def test_compiled_equals_host_at_every_length(noise, num_samples):
    waveform = noise(num_samples)
    log_mel = compiled(waveform)
    assert log_mel.shape == (128, 204)
    # A float32 FFT against a float64 one, after a log.
    np.testing.assert_allclose(log_mel, imagebind_log_mel_host(waveform), atol=2e-4)


def test_batches_are_rows_and_short_floats_are_widened(noise):
    waveform = noise(2, 3, 1_000)
    whole = compiled(waveform)
    assert whole.shape == (2, 3, 128, 204)
    # XLA adds in another order; pre-emphasis leaves the low rows little to round.
    np.testing.assert_allclose(whole[1, 2], compiled(waveform[1, 2]), atol=2e-5)
    short = jnp.asarray(waveform, jnp.bfloat16)
    narrow = compiled(short)
    assert narrow.dtype == jnp.float32
    np.testing.assert_array_equal(narrow, compiled(short.astype(jnp.float32)))


def test_frames_are_whole_and_padding_is_zero_before_normalisation(noise):
    log_mel = imagebind_log_mel_host(noise(400 + 160 + 159))  # two frames
    assert (log_mel[:, 2:] == np.float32(PADDING)).all()
    assert (log_mel[:, :2] != np.float32(PADDING)).all()
    full = imagebind_log_mel_host(noise(400 + 160 * 203))
    assert (full != np.float32(PADDING)).all()
    longer = imagebind_log_mel_host(np.concatenate([noise(400 + 160 * 203), noise(9)]))
    np.testing.assert_array_equal(longer, full)


def test_a_constant_and_silence_are_the_floor():
    for level in (0.0, 0.25):  # 0.25 loses its mean without rounding
        log_mel = imagebind_log_mel_host(np.full(720, level))
        np.testing.assert_allclose(log_mel[:, :3], FLOOR, atol=1e-6)


def test_louder_is_higher_by_the_log_of_power(noise):
    waveform = 10.0 * noise(4_000).astype(np.float64)
    rise = kaldi_log_mel(2.0 * waveform) - kaldi_log_mel(waveform)
    heard = np.arange(128) != 3
    np.testing.assert_allclose(rise[:, heard], np.log(4.0), atol=1e-9)
    assert (rise[:, 3] == 0).all()


def test_gradient_equals_differences(two_tones, noise):
    waveform = two_tones(16_000, 720) + noise(720)  # three frames
    weight, direction = noise(128, 3, seed=1), noise(720, seed=2)

    def loss(waveform):
        return jnp.sum(weight * imagebind_log_mel(waveform)[:, :3])

    gradient = jax.jit(jax.grad(loss))(jnp.asarray(waveform, jnp.float32))
    slope = np.vdot(gradient, direction)

    def host(step):
        log_mel = kaldi_log_mel(waveform + step * direction).T
        return np.sum(weight * log_mel) / DEVIATION

    step = 1e-6
    difference = (host(step) - host(-step)) / (2 * step)
    # Of float32 gradients that nearly cancel; an error would be of the first order.
    scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
    assert abs(slope - difference) < 1e-5 * scale


def test_gradient_is_finite_at_silence_and_zero_below_the_floor():
    def loss(waveform):
        return jnp.sum(imagebind_log_mel(waveform))

    for waveform in (jnp.zeros(720), jnp.zeros(720).at[300].set(1.0)):
        assert np.isfinite(jax.jit(jax.grad(loss))(waveform)).all()
    np.testing.assert_array_equal(jax.grad(loss)(jnp.zeros(720)), np.zeros(720))


def test_same_input_gives_the_same_bits(noise):
    waveform = noise(4, 8_000)
    np.testing.assert_array_equal(compiled(waveform), compiled(waveform))
    np.testing.assert_array_equal(
        imagebind_log_mel_host(waveform), imagebind_log_mel_host(waveform)
    )


@pytest.mark.parametrize(
    "function", [imagebind_log_mel, imagebind_log_mel_host, kaldi_log_mel]
)
def test_what_is_no_sound_is_named(function):
    xp = jnp if function is imagebind_log_mel else np
    with pytest.raises(ValueError, match=r"waveform is float32 \(2, 0\), expected fl"):
        function(xp.zeros((2, 0), np.float32))
    with pytest.raises(ValueError, match=r"waveform is int16 \(500,\), expected float"):
        function(xp.zeros(500, np.int16))
