"""Named tensors as views of mapped files: nothing is read before its time."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marssep_jax.weights.mapped import MappedFile

HASHED_BYTES = 1 << 22


class TensorSource(Mapping[str, np.ndarray]):
    """Tensors of a checkpoint by name, each a view of a mapped file.

    Shapes and types cost nothing; elements are read from disk where they are used.

    Attributes:
      path: the file or folder that was opened.
      files: what it is made of.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tensors: Mapping[str, np.ndarray],
        files: Sequence[MappedFile],
    ) -> None:
        """Join tensors and the files they live in."""
        self.path = Path(path)
        self.files = tuple(files)
        self._tensors = without_prefix(tensors)

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def release(self) -> None:
        """Give back the memory of the tensors read so far."""
        for file in self.files:
            file.release()

    def settings(self, name: str = "config.json") -> dict[str, Any]:
        """Return a JSON file that lies beside the weights; {} where there is none.

        Raises:
          ValueError: it is no JSON object.
        """
        folder = self.path if self.path.is_dir() else self.path.parent
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ValueError(
                f"source is {str(self.path)!r}, expected a readable {name} beside it"
            ) from error
        if not isinstance(found, dict):
            raise ValueError(
                f"source is {str(self.path)!r}, expected an object in its {name}"
            )
        return found

    def beside(self, names: Sequence[str]) -> list[Path]:
        """Return those of some files that lie beside the weights."""
        folder = self.path if self.path.is_dir() else self.path.parent
        return [path for name in names if (path := folder / name).is_file()]

    def provenance(
        self, on_bytes: Callable[[int], None] = lambda count: None
    ) -> dict[str, Any]:
        """Return name, size and SHA-256 of every file, read once from end to end.

        Args:
          on_bytes: hears how many bytes have just been read.
        """
        digests = {}
        for file in self.files:
            digest = hashlib.sha256()
            with open(file.path, "rb", buffering=0) as raw:
                while block := raw.read(HASHED_BYTES):
                    digest.update(block)
                    on_bytes(len(block))
            digests[file.path.name] = digest.hexdigest()
        size = sum(file.size for file in self.files)
        name = self.path.resolve().name
        return {"name": name, "size_bytes": size, "sha256": digests}


def without_prefix(
    tensors: Mapping[str, np.ndarray], prefix: str = "module."
) -> dict[str, np.ndarray]:
    """Drop the prefix that data-parallel training puts before every name."""
    cut = len(prefix) if all(name.startswith(prefix) for name in tensors) else 0
    return {name[cut:]: tensor for name, tensor in tensors.items()}
