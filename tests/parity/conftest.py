"""Lets the published packages be imported without what they do not need here.

To run these tests, in an environment of their own:

  pip install -e '.[parity]'
  pip install --no-deps -r tests/parity/requirements-no-deps.txt
  pytest tests/parity

MARSSEP_PARITY_FULL=1 adds the published sizes: 6 GB of memory, two minutes.
Without the packages every test here is skipped.
"""

import importlib.machinery
import importlib.util
import sys
import types

import pytest


def _keep_torchaudio_from_its_libraries():
    """Stand in for the module that loads torchaudio's compiled part.

    Its wheels are built for CUDA and fail to load beside a CPU build of PyTorch;
    transformers imports it where it finds it. Resampling and filter banks are
    Python.
    """
    if importlib.util.find_spec("torchaudio") is None:
        return
    extension = types.ModuleType("torchaudio._extension")
    extension.fail_if_no_align = lambda function: function
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension._IS_ALIGN_AVAILABLE = False
    sys.modules["torchaudio._extension"] = extension
    sys.modules["torchaudio._extension.utils"] = types.ModuleType("utils")


_keep_torchaudio_from_its_libraries()


class Shelf:
    """Puts modules into sys.modules that need not exist, or not be run."""

    def __init__(self, patch):
        self._patch = patch

    def need(self, *names):
        """Skip the test unless all packages are installed; none is imported."""
        absent = [name for name in names if importlib.util.find_spec(name) is None]
        if absent:
            pytest.skip(f"{', '.join(absent)} not installed")

    def stand_in(self, name, **contents):
        module = types.ModuleType(name)
        module.__dict__.update(contents)
        self._patch.setitem(sys.modules, name, module)

    def open_package(self, name):
        """Make submodules importable without running the package's own start."""
        spec = importlib.machinery.PathFinder.find_spec(name)
        folders = list(spec.submodule_search_locations)
        self.stand_in(name, __path__=folders, __spec__=spec)

    def open_imagebind(self):
        """Make ImageBind's modules importable."""
        import torch

        self.open_package("imagebind")
        self.stand_in("timm")
        init = torch.nn.init.trunc_normal_
        self.stand_in("timm.layers", DropPath=torch.nn.Identity, trunc_normal_=init)
        self.stand_in("iopath")
        self.stand_in("iopath.common")
        manager = types.SimpleNamespace(open=open)
        self.stand_in("iopath.common.file_io", g_pathmgr=manager)


@pytest.fixture(scope="module")
def shelf():
    with pytest.MonkeyPatch.context() as patch:
        yield Shelf(patch)
