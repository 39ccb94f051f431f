"""The folder of a run: its settings, its lock and the mark of its end."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from marssep_jax.checkpoint.store import CheckpointStore

CONFIG, MARK, LOCK = "config.json", "COMPLETED", ".lock"
MISSING = "absent"


class Workdir(NamedTuple):
    """An opened workdir; ``store`` is its ``checkpoints`` folder."""

    path: Path
    config: dict[str, Any]
    store: CheckpointStore

    def is_complete(self) -> bool:
        """Say whether the run has ended."""
        return (self.path / MARK).is_file()

    def completed_step(self) -> int | None:
        """Return the step at which the run has ended; None if it has not."""
        try:
            record = json.loads((self.path / MARK).read_text(encoding="utf-8"))
            return int(record["step"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def complete(self, record: Mapping[str, Any]) -> None:
        """Mark the run as ended, with a few words on how."""
        write_json(self.path / MARK, record)


@contextlib.contextmanager
def open_workdir(
    path: str | os.PathLike[str],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any] | None = None,
    *,
    keep: int = 2,
    keep_every: int = 0,
    checkpoints: str | None = None,
) -> Iterator[Workdir]:
    """Open or make the workdir of a run, for this process alone.

    Args:
      path: the folder.
      config: resolved settings; they are compared with those of an earlier start.
      provenance: what is written beside them, and into every checkpoint, and not
        compared, such as versions.
      keep: latest checkpoints kept besides the best one.
      keep_every: besides, those of steps that are multiples of this; 0 is none.
      checkpoints: folder or bucket for them; None takes ``checkpoints`` in the folder.

    Yields:
      The workdir; its checkpoints are on disk when the block ends.

    Raises:
      ValueError: a file in the way, another run at work here, or one of another
        configuration.
      OSError: a folder that cannot be written.
    """
    folder = Path(os.path.abspath(path))
    plain = json.loads(json.dumps(config))  # tuples become lists, as they will be read
    with (
        contextlib.suppress(FileExistsError, NotADirectoryError),
        _writing(str(path)),
    ):
        folder.mkdir(parents=True)
    if not folder.is_dir():
        raise ValueError(f"workdir is {str(path)!r}, expected a folder")
    with _locked(folder, str(path)):
        is_new = not (folder / CONFIG).exists()
        _check_config(folder, plain, str(path), dict(provenance or {}))
        try:
            with CheckpointStore(
                checkpoints or folder / "checkpoints",
                keep=keep,
                keep_every=keep_every,
                provenance=provenance,
            ) as store:
                yield Workdir(folder, plain, store)
        except ValueError:  # settings that do not work must not bind the next start
            if is_new and not store.directory.exists():
                (folder / CONFIG).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _writing(shown: str) -> Iterator[None]:
    """Say which workdir it is that cannot be written."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise
    except OSError as error:
        raise OSError(
            f"workdir is {shown!r}, expected a folder that can be written "
            f"({error.strerror})"
        ) from error


@contextlib.contextmanager
def _locked(folder: Path, shown: str) -> Iterator[None]:
    """Hold the workdir's lock, which the system drops when the process ends.

    The hosts of one run share the folder: only the first of them locks it.
    """
    import fcntl  # absent on Windows, where the package still imports

    if jax.process_index() > 0:
        yield
        return
    with _writing(shown):
        file = open(folder / LOCK, "w", encoding="utf-8")  # noqa: SIM115  just below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"workdir is {shown!r}, expected one that no other run is using"
            ) from error
        yield


def _check_config(
    folder: Path, config: dict[str, Any], shown: str, provenance: dict[str, Any]
) -> None:
    path = folder / CONFIG
    if not path.exists():
        if (folder / "checkpoints").exists():
            raise ValueError(f"workdir is {shown!r}, expected a {CONFIG} in it")
        if jax.process_index() == 0:
            write_json(path, {"config": config, **provenance})
        return
    require_config(folder, config, shown)


def require_config(
    folder: Path, config: Mapping[str, Any], shown: str, ignored: tuple[str, ...] = ()
) -> None:
    """Check that a workdir was started with a configuration.

    Args:
      folder: the workdir.
      config: resolved settings.
      shown: what an error message calls the workdir.
      ignored: beginnings of dotted keys that may differ.

    Raises:
      ValueError: naming the first setting that differs, or a damaged record.
    """
    try:
        before = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"workdir is {shown!r}, expected a readable {CONFIG} in it"
        ) from error
    plain = json.loads(json.dumps(config))  # tuples become lists
    found = differences(before, plain)
    if changes := [row for row in found if not row[0].startswith(ignored)]:
        key, old, new = changes[0]
        more = f", and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise ValueError(
            f"config.{key} is {new!r}, expected {old!r} as {shown} was started with"
            f"{more}: use another workdir"
        )


def differences(
    before: Any, after: Any, place: tuple[str, ...] = ()
) -> list[tuple[str, Any, Any]]:
    """List what differs between two nested dicts: (dotted key, before, after)."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            change
            for name in sorted(before.keys() | after.keys())
            for change in differences(
                before.get(name, MISSING), after.get(name, MISSING), (*place, name)
            )
        ]
    return [] if before == after else [(".".join(place), before, after)]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file that is either whole or not there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
