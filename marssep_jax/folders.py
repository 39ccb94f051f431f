"""Write a folder or a file whole or not at all."""

import contextlib
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(
    path: str | os.PathLike[str], record: str, kind: str
) -> Iterator[Path]:
    """Give a folder to fill, which takes the place of ``path`` when all went well.

    Whatever goes wrong, ``path`` is what it was before. What processes left behind
    that were killed on the way is removed.

    Args:
      path: where the folder is to be.
      record: file by which a folder is known as one that may be replaced.
      kind: what an error calls such a folder.

    Yields:
      An empty folder beside it.

    Raises:
      ValueError: a file or another folder is in the way.
      OSError: no room, or no permission.
    """
    folder = Path(os.path.abspath(path))
    is_old = (folder / record).is_file()
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not is_old and not is_empty:
        raise ValueError(
            f"path is {str(path)!r}, expected a new folder or {kind} to replace"
        )
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        partial.mkdir()
        yield partial
        _put_in_place(partial, folder, is_old)
    except OSError as error:
        raise OSError(f"cannot write {path} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def reason_of(error: BaseException) -> str:
    """Say in a line why something on disk could not be read."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return " ".join(str(error).split())


def write_bytes(path: Path, raw: bytes) -> None:
    """Write a file down to the disk."""
    with open(path, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, raw: bytes) -> None:
    """Write a file whole or not at all, in the place of one that may be there.

    Raises:
      OSError: no room, or no permission; ``path`` is what it was before.
    """
    partial = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    try:
        write_bytes(partial, raw)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(f"cannot write {path} ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(folder: Path) -> None:
    """Remove what processes left of `replace_file` that were killed on the way.

    Those of other machines, which may be at work in a shared folder, stay.
    """
    own = re.compile(rf"\..+\.{re.escape(platform.node())}\.(\d+)\.part")
    for place in folder.iterdir():
        known = own.fullmatch(place.name)
        if known and not _is_running(int(known[1])):
            with contextlib.suppress(OSError):  # somebody else's
                place.unlink()


def _remove_abandoned(folder: Path) -> None:
    """Remove what other processes began here and will not end."""
    own = re.compile(rf"\.{re.escape(folder.name)}\.(\d+)\.(part|old)")
    for place in folder.parent.iterdir():
        known = own.fullmatch(place.name)
        if known and not _is_running(int(known[1])):
            if known[2] == "old" and not folder.exists():
                os.replace(place, folder)  # killed between two renames
            else:
                shutil.rmtree(place, ignore_errors=True)


def _is_running(process: int) -> bool:
    if process == os.getpid():
        return False
    try:
        if os.name == "posix":  # elsewhere 0 is no question but a signal
            os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _put_in_place(partial: Path, folder: Path, is_old: bool) -> None:
    """Rename into place; a folder that is not empty cannot be replaced at once."""
    if not is_old:
        os.replace(partial, folder)
        return
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    os.replace(folder, old)
    try:
        os.replace(partial, folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
