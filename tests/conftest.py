"""What holds for every test: CPU, eight devices, strict ranks, compiled once.

All of it must be in place before anything imports JAX or TensorFlow.
"""

import os
import tempfile
from pathlib import Path

import pytest

# Child processes inherit these. A machine with an accelerator can be tested by
# setting JAX_PLATFORMS itself.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _cache_folder() -> Path:
    """Return where compiled programs outlive the test run."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "marssep_jax" / "compiled_tests"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # no home, or one that cannot be written
        folder = Path(tempfile.gettempdir()) / "marssep_jax_compiled_tests"
    return folder


os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_cache_folder()))

import jax  # noqa: E402  after the environment it reads

# Sharding is tested on up to eight devices wherever there is one CPU.
jax.config.update("jax_num_cpu_devices", 8)
# [b, h] + [h] is a mistake more often than a wish: ranks must be explicit.
jax.config.update("jax_numpy_rank_promotion", "raise")
# The many small programs of the tests are worth keeping too.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def pytest_addoption(parser):
    """Let a bigger machine try more."""
    text = "processes of a training over several, a divisor of 4"
    parser.addoption("--processes", type=int, default=2, help=text)


@pytest.fixture(scope="module")
def quick_compile():
    """Compile a module's functions without most of XLA's passes.

    Random bits, lgamma and digamma cost seconds of compilation and run for
    microseconds here. Not for tests whose subject is rounding.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
