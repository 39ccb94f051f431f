"""Import packages that need not be there, and put errors into one line.

soundfile, soxr and their C libraries are needed for files only; the core imports
without them.
"""

import importlib
import os
from typing import Any


def import_package(name: str, purpose: str) -> Any:
    """Import an optional package.

    Raises:
      ModuleNotFoundError: one line that says what needs it and why it failed.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: its C library is missing
        raise ModuleNotFoundError(
            f"{purpose} needs the package {name!r}, which could not be imported "
            f"({one_line(error)})"
        ) from error


def file_name(path: str | os.PathLike[str]) -> str | bytes:
    """Return a path as libsndfile's wrapper takes it, valid Unicode or not."""
    return os.fsencode(path) if os.name == "posix" else os.fspath(path)


def shown(path: object) -> str:
    """Return what an error message calls a path or an open file."""
    if isinstance(path, (str, os.PathLike)):
        return repr(os.fspath(path))
    return repr(getattr(path, "name", "<stream>"))


def one_line(error: BaseException) -> str:
    """Return an error's text on one line, without the final stop."""
    return " ".join(str(error).split()).rstrip(".")


def reason_of(error: BaseException) -> str:
    """Return why a file operation failed, without the path it repeats."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error).rpartition(": ")[2]
