"""A third-party file: where it comes from, under which terms, pinned and checked."""

import dataclasses
import hashlib
import pathlib


@dataclasses.dataclass(frozen=True)
class Source:
    """One pinned third-party file.

    Attributes:
      key: Short name used in clip names and in the catalogue.
      package: Package that carries it.
      version: Its pinned version.
      member: Path of the file inside the package; empty for all of the package, as
        the client packs it.
      sha256: Hash of the file.
      licence: SPDX expression.
      author: Whom the licence asks to name.
      notice: Path of a licence text inside the package, or empty.
    """

    key: str
    package: str
    version: str
    member: str
    sha256: str
    licence: str
    author: str
    notice: str = ""

    @property
    def filename(self) -> str:
        """Name under which the checked file is kept."""
        suffix = pathlib.Path(self.member).suffix if self.member else ".tgz"
        return f"{self.key}-{self.version}{suffix}"

    @property
    def where(self) -> str:
        """Say which file of which package it is."""
        within = f"{self.member} of " if self.member else ""
        return f"{within}{self.package} {self.version}"


def sha256_of(path: pathlib.Path) -> str:
    """Return the SHA-256 of a file as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: pathlib.Path, source: Source) -> pathlib.Path:
    """Return the path if the file is the pinned one.

    Raises:
      ValueError: it is another file.
    """
    found = sha256_of(path)
    if found != source.sha256:
        raise ValueError(
            f"{path} has SHA-256 {found}, expected {source.sha256} ({source.where})"
        )
    return path
