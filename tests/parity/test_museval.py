"""BSS-eval of images against museval, of which one file is run and nothing else."""

import importlib.util
import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marssep_jax.metrics import bss_eval, bss_eval_permuted
from tests.support.bss_signals import SIGNALS, mix

TOLERANCE_DB = {"float32": 0.02, "float64": 1e-3}


@pytest.fixture(scope="module")
def museval():
    """Return museval.metrics; the package itself imports readers of films."""
    package = importlib.util.find_spec("museval")
    if package is None:
        pytest.skip("museval not installed")
    path = pathlib.Path(package.submodule_search_locations[0]) / "metrics.py"
    spec = importlib.util.spec_from_file_location("museval_metrics", path)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes in its docstrings
        spec.loader.exec_module(module)

    def evaluate(estimates, targets, permute=False):
        sdr, _, sir, sar, order = module.bss_eval(
            *(x[..., None] for x in (targets, estimates)),
            window=np.inf,
            hop=np.inf,
            filters_len=512,
            compute_permutation=permute,
            bsseval_sources_version=False,
        )
        return np.stack([x[:, 0] for x in (sdr, sir, sar)]), order[:, 0]

    return evaluate


@pytest.mark.parametrize("make", SIGNALS)
def test_images_variant_equals_museval(museval, make):
    targets = make(np.random.default_rng(1)).astype(np.float32)
    estimates = mix(targets).astype(np.float32)
    expected, _ = museval(*(x.astype(np.float64) for x in (estimates, targets)))
    single = bss_eval(jnp.asarray(estimates), jnp.asarray(targets))
    np.testing.assert_allclose(single, expected, atol=TOLERANCE_DB["float32"])
    with jax.enable_x64(True):
        pair = (jnp.asarray(x, jnp.float64) for x in (estimates, targets))
        double = bss_eval(*pair)
    np.testing.assert_allclose(double, expected, atol=TOLERANCE_DB["float64"])


def test_the_permutation_is_that_of_museval(museval):
    rng = np.random.default_rng(23)
    targets = rng.standard_normal((3, 1_500))
    estimates = rng.standard_normal((3, 3)) @ targets
    estimates += 0.1 * rng.standard_normal(targets.shape)
    expected, order = museval(estimates, targets, permute=True)
    with jax.enable_x64(True):
        found = bss_eval_permuted(jnp.asarray(estimates), jnp.asarray(targets))
    np.testing.assert_array_equal(found.permutation, order)
    np.testing.assert_allclose(np.stack(found[:3]), expected, atol=1e-3)
