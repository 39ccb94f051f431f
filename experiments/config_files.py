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
    kind = ml_collections.ConfigDict
    return load_function(path, "config", "get_config(stage)", kind)


def load_function(path: str, name: str, signature: str, kind: type) -> Any:
    """Return a function of a Python file that takes an optional word.

    Args:
      path: the file.
      name: of the flag that names it.
      signature: its name in the file, and in brackets what the word says.
      kind: what it returns.

    Raises:
      ValueError: no such file, one that does not run, or one without the function;
        also when it is called, if it fails or returns something else.
    """
    if not pathlib.Path(path).is_file():
        raise ValueError(f"{name} is {path!r}, expected a Python file")
    function = signature.partition("(")[0]
    found = _try(name, path, lambda: runpy.run_path(path)).get(function)
    if not callable(found):
        raise ValueError(f"{name} is {path!r}, expected {signature} in it")

    def call(*argument: str) -> Any:
        made = _try(name, path, lambda: found(*argument))
        if not isinstance(made, kind):
            raise ValueError(
                f"{name} is {path!r}, expected a {kind.__name__} from its {function}"
            )
        return made

    return call


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


def _try(name: str, path: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Exception as error:  # whatever a user's file may raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(
            f"{name} is {path!r}, expected one that runs ({kind}{error})"
        ) from error
