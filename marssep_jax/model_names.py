"""Models by name: folders that lie in the package, or where a user keeps them.

A name is that of a folder below ``pretrained/`` in this package, or below the folder
that the environment variable MARSSEP_MODELS names; the user's come first.
"""

import os
from pathlib import Path

VARIABLE = "MARSSEP_MODELS"
IN_THE_PACKAGE = Path(__file__).parent / "pretrained"


def model_names() -> list[str]:
    """Return the names that there are."""
    found = {
        path.name
        for shelf in _shelves()
        if shelf.is_dir()
        for path in shelf.iterdir()
        if path.is_dir() and not path.name.startswith((".", "_"))
    }
    return sorted(found)


def find_model(name: str) -> Path | None:
    """Return the folder of a name, or None; what looks like a path is no name."""
    if not may_be_name(name):
        return None
    return next((s / name for s in _shelves() if (s / name).is_dir()), None)


def may_be_name(path: str | os.PathLike[str]) -> bool:
    """Tell a name from what can only be a path."""
    name = os.fspath(path)
    return bool(name) and name == os.path.basename(name) and not name.startswith(".")


def _shelves() -> list[Path]:
    own = os.environ.get(VARIABLE)
    return [*([Path(own)] if own else []), IN_THE_PACKAGE]
