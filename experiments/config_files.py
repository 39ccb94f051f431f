"""Config files: Python with a ``get_config(stage)``, and what may be wrong with one."""

import pathlib
import runpy
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections

ConfigFn = Callable[..., ml_collections.ConfigDict]


def load_config_function(path: str) -> ConfigFn:
    """Return the ``get_config`` of a file.

    Raises:
      ValueError: no such file, one that does not run, or one without it.
    """
    if not pathlib.Path(path).is_file():
        raise ValueError(f"config is {path!r}, expected a Python file")
    function = _try(path, lambda: runpy.run_path(path)).get("get_config")
    if not callable(function):
        raise ValueError(f"config is {path!r}, expected get_config(stage) in it")

    def get_config(*stage: str) -> ml_collections.ConfigDict:
        config = _try(path, lambda: function(*stage))
        if not isinstance(config, ml_collections.ConfigDict):
            raise ValueError(
                f"config is {path!r}, expected a ConfigDict from its get_config"
            )
        return config

    return get_config


def check_flag(argv: Sequence[str], name: str = "--config") -> None:
    """Check the file that a command line names, ``--config=FILE[:STAGE]``.

    ml_collections reads it too, and wraps what goes wrong in its own words.

    Raises:
      ValueError: see `load_config_function`.
    """
    for index, word in enumerate(argv):
        if word == name and index + 1 < len(argv):
            value = argv[index + 1]
        elif word.startswith(f"{name}="):
            value = word.split("=", 1)[1]
        else:
            continue
        path, *stage = value.split(":", 1)
        load_config_function(path)(*stage)


def _try(path: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Exception as error:  # whatever a user's file may raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(
            f"config is {path!r}, expected one that runs ({kind}{error})"
        ) from error
