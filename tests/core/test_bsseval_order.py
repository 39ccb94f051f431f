"""BSS-eval of estimates in an unknown order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.metrics import bss_eval, bss_eval_permuted
from tests.support.bss_signals import as_mir_eval


@pytest.mark.parametrize("variant", ["sources", "images"])
def test_permuted_estimates_find_their_targets(variant):
    rng = np.random.default_rng(22)
    targets = rng.standard_normal((2, 3, 1_000))
    estimates = targets + 0.3 * targets[:, ::-1]
    estimates += 0.1 * rng.standard_normal(targets.shape)
    orders = np.array([[2, 0, 1], [1, 0, 2]])
    shuffled = np.take_along_axis(estimates, orders[..., None], axis=1)
    with jax.enable_x64(True):
        pair = jnp.asarray(shuffled), jnp.asarray(targets)
        found = bss_eval_permuted(*pair, variant, num_taps=32)
        plain = bss_eval(jnp.asarray(estimates), pair[1], variant, num_taps=32)
    np.testing.assert_array_equal(found.permutation, np.argsort(orders))
    np.testing.assert_allclose(np.stack(found[:3]), np.stack(plain), atol=1e-9)


def test_the_permutation_is_that_of_mir_eval():
    rng = np.random.default_rng(23)
    targets = rng.standard_normal((3, 1_500))
    mixing = rng.standard_normal((3, 3))  # nobody's estimate is obvious
    estimates = mixing @ targets + 0.1 * rng.standard_normal(targets.shape)
    expected = as_mir_eval(estimates, targets, permute=True)
    with jax.enable_x64(True):
        pair = jnp.asarray(estimates), jnp.asarray(targets)
        found = jax.jit(lambda e, s: bss_eval_permuted(e, s, "sources"))(*pair)
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-3)
    many = jnp.zeros((9, 600))
    with pytest.raises(ValueError, match="targets has 9 sources, expected at most 8"):
        bss_eval_permuted(many, many)
