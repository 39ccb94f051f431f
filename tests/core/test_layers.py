"""Building blocks of the small networks, each against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from marssep_jax.layers import ConvBlock, fold, jit_once, peak, relative_level, unfold

pytestmark = pytest.mark.usefixtures("quick_compile")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_unfold_inverts_fold(size):
    value = jnp.asarray(noise(2, 8, 12, 3))
    folded = fold(value, size)
    assert folded.shape == (2, 8 // size, 12 // size, size * size * 3)
    spread = folded.reshape(*folded.shape[:3], size * size, 3)
    np.testing.assert_array_equal(unfold(spread), value)
    np.testing.assert_array_equal(fold(unfold(spread), size), folded)


def test_fold_by_hand():
    # Rows 0 1 / 2 3 of the one cell, read in that order.
    value = jnp.arange(4.0).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(fold(value), [[[[0.0, 1.0, 2.0, 3.0]]]])


def test_unfold_keeps_further_axes():
    value = noise(3, 2, 4, 5, 4, 2)
    whole = unfold(jnp.asarray(value))
    assert whole.shape == (3, 2, 8, 10, 2)
    np.testing.assert_array_equal(whole[1], unfold(jnp.asarray(value[1])))


def norm_and_silu(value, scale, bias):
    """Normalise groups of 8 channels over the grid, then x sigmoid(x)."""
    b, h, w, c = value.shape
    grouped = value.reshape(b, h, w, c // 8, 8)
    mean = grouped.mean(axis=(1, 2, 4), keepdims=True)
    var = grouped.var(axis=(1, 2, 4), keepdims=True)
    value = ((grouped - mean) / np.sqrt(var + 1e-6)).reshape(value.shape)
    value = value * scale + bias
    return value / (1 + np.exp(-value))


@pytest.mark.parametrize("stride", [2, 4])
def test_strided_block_is_a_strided_convolution(stride):
    """Its kernel, rearranged, is one of 2s x 2s that overhangs to the right.

    Output i reads cells i and i + 1, that is rows s i to s i + 2 s - 1.
    """
    block, value = ConvBlock(16, stride), jnp.asarray(noise(2, 8, 12, 3))
    params = jax.jit(block.init)(jax.random.key(0), value)["params"]
    params["GroupNorm_0"] = {"scale": noise(16, seed=1), "bias": noise(16, seed=2)}
    kernel = params["Conv_0"]["kernel"]
    assert kernel.shape == (2, 2, stride * stride * 3, 16)
    wide = np.zeros((2 * stride, 2 * stride, 3, 16), np.float32)
    for p, q, row, column in np.ndindex(2, 2, stride, stride):
        place = 3 * (stride * row + column)
        wide[stride * p + row, stride * q + column] = kernel[p, q, place : place + 3]
    convolved = jax.lax.conv_general_dilated(
        value,
        jnp.asarray(wide),
        (stride, stride),
        [(0, stride), (0, stride)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    expected = norm_and_silu(np.asarray(convolved), **params["GroupNorm_0"])
    ours = block.apply({"params": params}, value)
    # float32 sums of 12 s^2 products in two orders, normalised to order one.
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_plain_block_is_a_3x3_convolution():
    block, value = ConvBlock(8), jnp.asarray(noise(1, 5, 7, 2))
    params = jax.jit(block.init)(jax.random.key(0), value)["params"]
    convolved = jax.lax.conv_general_dilated(
        value,
        params["Conv_0"]["kernel"],
        (1, 1),
        [(1, 1), (1, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    params["GroupNorm_0"] = {"scale": np.ones(8), "bias": np.zeros(8)}
    expected = norm_and_silu(np.asarray(convolved), **params["GroupNorm_0"])
    ours = block.apply({"params": params}, value)
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_peak_is_the_maximum_and_its_gradient_names_one_entry():
    value = jnp.asarray(noise(2, 5, 3)).at[0, [1, 4], 2].set(9.0)
    np.testing.assert_array_equal(peak(value, 1), np.max(value, axis=1))
    weight = noise(2, 3, seed=1)
    grad = jax.jit(jax.grad(lambda v: jnp.sum(weight * peak(v, 1))))(value)
    expected = np.zeros((2, 5, 3), np.float32)
    # The first of two equals.
    for b, c in np.ndindex(2, 3):
        expected[b, np.argmax(value[b, :, c]), c] = weight[b, c]
    np.testing.assert_array_equal(grad, expected)


def test_gradient_of_a_peak_is_finite_where_its_operand_is_rounded_twice():
    # Compiled as here, x g + b is computed once for the maximum and once, by other
    # instructions, to look for it: jnp.max has a gradient of 0 / 0.
    norm, value = nn.LayerNorm(), jnp.asarray(noise(6, 5, 8))
    params = {"params": {"scale": 1 + 0.1 * noise(8), "bias": 0.1 * noise(8, seed=1)}}
    loss = jax.jit(jax.grad(lambda p: jnp.sum(peak(norm.apply(p, value), 1) ** 2)))
    for leaf in jax.tree.leaves(loss(params)):
        assert np.isfinite(leaf).all()


def test_relative_level_by_hand():
    # Magnitudes 1 and 7: rms = sqrt((1 + 49) / 2) = 5, so 0.2 and 1.4.
    log_mag = jnp.log(jnp.array([[1.0, 7.0]]))
    np.testing.assert_allclose(
        relative_level(log_mag, 0.1), np.log([[0.3, 1.5]]), atol=1e-6
    )


def test_relative_level_ignores_gain_and_has_a_floor():
    log_mag = jnp.asarray(3.0 * noise(2, 3, 8, 6))
    level = relative_level(log_mag, 0.01)
    assert level.shape == log_mag.shape
    # Each clip by its own level; adding 5 costs half an ulp of 16: 1e-6.
    gain = jnp.asarray([-5.0, 0.0, 5.0]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(relative_level(log_mag + gain, 0.01), level, atol=5e-6)
    assert level.min() >= np.log(0.01)
    # Silence between sounds: the floor is reached, and stays finite.
    silent = jnp.asarray(np.where(noise(8, 6) > 0, 0.0, -1e3))
    assert relative_level(silent, 0.01).min() == pytest.approx(np.log(0.01))
    # A clip of the front end's floor alone is a clip of one level: log(1 + floor).
    np.testing.assert_allclose(
        relative_level(jnp.full((4, 4), np.log(1e-10)), 0.01), np.log(1.01), atol=1e-5
    )


def test_an_initialiser_is_itself_however_it_is_compiled():
    net, value = ConvBlock(8), jnp.asarray(noise(1, 4, 4, 3))
    plain = jax.jit(net.init)(jax.random.key(3), value)
    quick = jit_once(net.init)(jax.random.key(3), value)
    # The inverse error function is rounded otherwise.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), quick, plain)
