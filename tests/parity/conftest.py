"""Lets the published packages be imported without what they do not need here.

To run these tests, in an environment of their own:

  pip install -e '.[parity]'
  pip install --no-deps -r tests/parity/requirements-no-deps.txt
  pytest tests/parity

MARSSEP_PARITY_FULL=1 adds the published sizes: 6 GB of memory, two minutes.
Without the packages every test here is skipped.
"""

import pytest

from experiments.benchmarks import references

references.keep_transformers_from_broken_packages()


class Shelf(references.Shelf):
    """Skips a test that needs what is not there."""

    def need(self, *names):
        """Skip the test unless all packages are installed; none is imported."""
        if absent := self.missing(*names):
            pytest.skip(f"{', '.join(absent)} not installed")


@pytest.fixture(scope="module")
def shelf():
    opened = Shelf()
    yield opened
    opened.close()
