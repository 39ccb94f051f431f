"""Lets the published packages be imported without what they do not need here."""

import importlib.util
import sys
import types


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
