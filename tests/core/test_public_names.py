"""``import marssep_jax``: what it lists, and what it leaves alone."""

import subprocess
import sys
from pathlib import Path

import pytest

import marssep_jax as ms

ROOT = Path(__file__).parents[2]


def run_fresh(code):
    """Run code in a new interpreter; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_is_sorted_and_about_twenty():
    assert len(ms.__all__) == len(set(ms.__all__))
    assert 15 <= len(ms.__all__) <= 25
    assert set(ms.__all__) <= set(dir(ms))


@pytest.mark.parametrize("name", [n for n in ms.__all__ if n != "__version__"])
def test_every_name_is_what_its_module_calls_so(name):
    value = getattr(ms, name)
    assert value.__name__ == name
    assert value.__doc__
    assert value.__module__.startswith("marssep_jax.")


def test_unknown_name():
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = ms.nonsense


def test_import_is_quick_and_light():
    """Measured inside the new interpreter, whose own start does not count."""
    seconds, heavy = run_fresh(
        "import sys, time; start = time.perf_counter(); import marssep_jax;"
        "print(time.perf_counter() - start);"
        "print({'jax', 'numpy', 'soundfile', 'soxr'} & set(sys.modules))"
    ).splitlines()
    assert float(seconds) < 3.0
    assert heavy == "set()"


def test_no_name_needs_audio_libraries_or_another_framework():
    heavy = run_fresh(
        "import sys, marssep_jax as ms; [getattr(ms, name) for name in ms.__all__];"
        "names = {'tensorflow', 'torch', 'transformers', 'soundfile', 'soxr', 'PIL',"
        " 'librosa', 'data_pipelines', 'experiments'};"
        "print(names & set(sys.modules))"
    )
    assert heavy == "set()\n"
