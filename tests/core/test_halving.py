"""Strided convolutions: the map is XLA's, and so are gradients, whichever way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.models.halving import convolve_halving, gradients_by_products

SHAPES = [(2, 6, 4), (1, 2, 2), (2, 2, 8)]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def plainly(value, kernel):
    """Sum the taps of every output, in float64."""
    b, h, w, _ = value.shape
    padded = np.pad(value.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((b, h // 2, w // 2, kernel.shape[-1]))
    for row in range(4):
        for column in range(4):
            read = padded[:, row : row + h : 2, column : column + w : 2]
            out += read @ kernel[row, column].astype(float)
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_every_output_sums_its_taps(shape):
    value, kernel = noise(*shape, 3), noise(4, 4, 3, 5, seed=1)
    ours = convolve_halving(jnp.asarray(value), jnp.asarray(kernel))
    np.testing.assert_allclose(ours, plainly(value, kernel), atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_the_gradients(shape):
    """The map is bilinear: its derivatives are the map itself, on unit inputs."""
    value, kernel = noise(*shape, 2), noise(4, 4, 2, 3, seed=1)
    b, h, w = shape
    slope = noise(b, h // 2, w // 2, 3, seed=2)
    by_value, by_kernel = gradients_by_products(
        *map(jnp.asarray, (value, kernel, slope))
    )
    step = noise(*kernel.shape, seed=3)
    expected = np.sum(plainly(value, step) * slope)
    assert np.isclose(np.sum(by_kernel * step), expected, rtol=1e-4, atol=1e-4)
    step = noise(*value.shape, seed=4)
    expected = np.sum(plainly(step, kernel) * slope)
    assert np.isclose(np.sum(by_value * step), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "width"), [(2, 16), (16, 2)])
def test_both_ways_of_the_gradient_agree(side, width):
    """A large kernel takes the products, a large grid what the compiler has."""
    value, kernel = noise(1, side, side, width), noise(4, 4, width, width, seed=1)
    assert (kernel.size > value.size) == (side == 2)
    slope = jnp.asarray(noise(1, side // 2, side // 2, width, seed=2))
    arrays = jnp.asarray(value), jnp.asarray(kernel)
    chosen = jax.vjp(convolve_halving, *arrays)[1](slope)
    products = gradients_by_products(*arrays, slope)
    for one, other in zip(chosen, products, strict=True):
        np.testing.assert_allclose(one, other, atol=3e-5)
