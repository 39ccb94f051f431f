"""Gamma's logarithm and derivatives against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special as reference

from marssep_jax import special

FUNCTIONS = {
    special.log_gamma: reference.gammaln,
    special.digamma: reference.digamma,
    special.trigamma: lambda value: reference.polygamma(1, value),
}


@pytest.mark.parametrize("ours", FUNCTIONS, ids=lambda ours: ours.__name__)
def test_equals_scipy(ours):
    value = np.concatenate([np.linspace(1, 11, 50_001), np.geomspace(11, 1e6, 5_001)])
    expected = FUNCTIONS[ours](value)
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(ours)(jnp.asarray(value)))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=2e-9)
    value = value.astype(np.float32)
    found = np.asarray(jax.jit(ours)(jnp.asarray(value)), np.float64)
    expected = FUNCTIONS[ours](value.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=6e-6)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_are_the_next_functions(order):
    def differentiated(value):
        function = special.log_gamma
        for _ in range(order):
            function = jax.grad(function)
        return function(value)

    value = np.linspace(1.0, 30.0, 200)
    with jax.enable_x64(True):
        found = jax.vmap(differentiated)(jnp.asarray(value))
    expected = reference.polygamma(order - 1, value)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
