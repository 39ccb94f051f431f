"""Convolutions of the doubled grid against doubling first and convolving then."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.models.doubling import (
    DoubledConv,
    convolve_doubled,
    convolve_doubled_gated,
    double_taps,
    doubling_matrix,
)

SHAPES = [(2, 4, 6), (1, 1, 2), (2, 3, 1), (1, 1, 1), (1, 5, 7)]
INPUTS, OUTPUTS = 3, 4


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def interpolate(values):
    """Double the last axis: output i reads input i (n - 1) / (2 n - 1)."""
    size = values.shape[-1]
    reads = np.arange(2 * size) * (size - 1) / (2 * size - 1)
    rows = [np.interp(reads, np.arange(size), row) for row in values.reshape(-1, size)]
    return np.stack(rows).reshape(*values.shape[:-1], 2 * size)


def plainly(value, kernel):
    """Double both axes by their matrices, then convolve with zeros at the edges."""
    rows, columns = (jnp.asarray(doubling_matrix(n)) for n in value.shape[1:3])
    wide = jnp.einsum("ph,bhwi,qw->bpqi", rows, value, columns)
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        wide, kernel, (1, 1), "SAME", dimension_numbers=numbers
    )


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_the_matrix_interpolates_with_aligned_corners(size):
    expected = interpolate(np.eye(size)).T
    np.testing.assert_allclose(doubling_matrix(size), expected, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_products_before_the_doubling_are_the_same_map(shape):
    value, kernel = noise(*shape, INPUTS), noise(3, 3, INPUTS, OUTPUTS, seed=1)
    ours = convolve_doubled(jnp.asarray(value), jnp.asarray(kernel))
    np.testing.assert_allclose(ours, plainly(value, kernel), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_the_plain_way(shape):
    value, kernel = noise(*shape, INPUTS), noise(3, 3, INPUTS, OUTPUTS, seed=1)
    b, h, w = shape
    slope = jnp.asarray(noise(b, 2 * h, 2 * w, OUTPUTS, seed=2))
    ours, plain = (
        jax.vjp(way, jnp.asarray(value), jnp.asarray(kernel))[1](slope)
        for way in (convolve_doubled, plainly)
    )
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_one_axis_and_its_gradient_are_one_linear_map(size, axis):
    """The Jacobians of both ways, tap by tap, against shifted rows of the matrix."""

    def alone(tap, line):
        shape = (size, 1) if axis == 0 else (1, size)
        taps = [jnp.zeros(shape)] * 3
        taps[tap] = line.reshape(shape)
        return double_taps(tuple(taps), axis).reshape(-1)

    padded = np.pad(doubling_matrix(size), ((1, 1), (0, 0)))
    for tap in range(3):
        expected = padded[tap : tap + 2 * size]
        columns = jax.vmap(partial(alone, tap))(jnp.eye(size))
        np.testing.assert_allclose(columns.T, expected, atol=1e-6)
        back = jax.jacrev(partial(alone, tap))(jnp.ones(size))
        np.testing.assert_allclose(back, expected, atol=1e-6)


def test_a_gate_in_the_kernel_is_a_gate_of_the_outputs():
    value, kernel = noise(2, 4, 6, INPUTS), noise(3, 3, INPUTS, OUTPUTS, seed=1)
    gate = noise(2, 5, OUTPUTS, seed=2)
    ours = convolve_doubled_gated(*map(jnp.asarray, (value, kernel, gate)))
    plain = jnp.einsum("bhwo,bko->bkhw", plainly(value, kernel), gate)
    np.testing.assert_allclose(ours, plain, atol=3e-5)


@pytest.mark.parametrize("queries", [1, OUTPUTS, OUTPUTS + 3])
def test_a_layers_sums_are_of_its_outputs_and_bias(queries):
    """More gates than outputs are summed after the convolution."""
    bias_init = jax.nn.initializers.normal(1.0)
    layer = DoubledConv(OUTPUTS, jax.nn.initializers.normal(1.0), bias_init)
    value, gate = (
        jnp.asarray(noise(2, 4, 6, INPUTS)),
        noise(2, queries, OUTPUTS, seed=2),
    )
    params = layer.init(jax.random.key(0), value)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    assert kernel.shape == (3, 3, INPUTS, OUTPUTS)
    outputs = plainly(value, kernel) + bias[None, None, None]
    np.testing.assert_allclose(layer.apply(params, value), outputs, atol=1e-5)
    sums = layer.apply(params, value, gate)
    expected = jnp.einsum("bhwo,bko->bkhw", outputs, gate)
    np.testing.assert_allclose(sums, expected, atol=3e-5)


def test_half_precision_keeps_its_kind_and_sums_in_float32():
    layer = DoubledConv(OUTPUTS, jax.nn.initializers.normal(1.0), dtype=jnp.bfloat16)
    value, gate = jnp.asarray(noise(2, 4, 6, INPUTS)), jnp.ones((2, 2, OUTPUTS))
    params = layer.init(jax.random.key(0), value)
    assert params["params"]["kernel"].dtype == jnp.float32
    outputs, sums = layer.apply(params, value), layer.apply(params, value, gate)
    assert (outputs.dtype, sums.dtype) == (jnp.bfloat16, jnp.float32)
    plain = plainly(value, params["params"]["kernel"])
    # Eight bits of every product, and of the sums of neighbours.
    assert np.abs(outputs - plain).max() < 0.02 * np.abs(plain).max()


def test_the_doubled_input_never_comes_to_be():
    """The compiled layer takes less memory than that input alone."""
    shape = (1, 32, 32, 256)
    value = jnp.zeros(shape)
    kernel, gate = jnp.zeros((3, 3, 256, 8)), jnp.zeros((1, 2, 8))
    compiled = jax.jit(convolve_doubled_gated).lower(value, kernel, gate).compile()
    doubled_bytes = 4 * 4 * np.prod(shape)
    assert compiled.memory_analysis().temp_size_in_bytes < doubled_bytes / 2
