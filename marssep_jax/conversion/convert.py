"""From a published checkpoint to a converted folder, in bounded memory."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from marssep_jax import interrupts
from marssep_jax.conversion.apply import (
    Converted,
    KeyReport,
    MismatchError,
    apply_rules,
)
from marssep_jax.conversion.architectures import Architecture, find_architecture
from marssep_jax.conversion.sources import open_source
from marssep_jax.conversion.tensors import TensorSource

DTYPES = ("float32", "bfloat16")
PACKAGE = "package"
"""Stands for a source: the installed package that carries the weights."""

ProgressFn = Callable[[int, int], None]


class Conversion(NamedTuple):
    """What was converted.

    Attributes:
      architecture: name in the table.
      licence: of the weights.
      non_commercial: whether that forbids commercial use.
      source: name, size and SHA-256 of the files; see `TensorSource.provenance`.
        Of a package also what it is called, and its notice.
      files: the tokenizer's, copied beside the parameters.
      parameters: numbers by part, the first level of the tree.
      size_bytes: of the result.
      report: every key.
    """

    architecture: str
    licence: str
    non_commercial: bool
    source: dict[str, Any]
    parameters: dict[str, int]
    size_bytes: int
    report: KeyReport
    files: tuple[str, ...] = ()


def convert(
    architecture: str,
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    on_progress: ProgressFn = lambda done, total: None,
) -> Conversion:
    """Convert published weights; the output is whole or not there at all.

    Whatever the size of the file, little more than its largest tensor is in memory.

    Args:
      architecture: name in the table of architectures.
      source: a file, or a folder that holds it; `PACKAGE` finds the package that
        carries the weights, without importing it.
      output: the folder to write; an older conversion in it is replaced.
      dtype: of floating parameters, float32 or bfloat16; None is the
        architecture's.
      on_progress: hears how many bytes of how many are done, read and written.

    Raises:
      MismatchError: weights of something else; its ``report`` lists every key.
      ValueError: a file that cannot be read, or something in the output's way; of a
        package, no such one is known or its files are others.
      ModuleNotFoundError: the package is not installed.
      OSError: no room, or no permission.
    """
    row = find_architecture(architecture)
    if dtype is not None and dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, expected {' or '.join(DTYPES)}")
    if source == PACKAGE:
        source, package = _packaged(row)
    else:
        package = {}
    opened = open_source(source, placeholders=row.placeholders)
    try:
        config = row.configure(opened)
        expected = row.shapes(config)
        converted = apply_rules(row.rules(opened), opened, expected, dtype)
    except MismatchError as error:
        error.args = (_not_these(source, row.title, error),)
        raise
    except ValueError as error:
        raise ValueError(_not_these(source, row.title, error)) from error
    _require_room(output, converted.num_bytes)
    total = sum(file.size for file in opened.files) + converted.num_bytes
    progress = _Sum(on_progress, total)
    origin = opened.provenance(progress.add) | package
    beside = opened.beside(row.beside)
    arrays = _watched(converted, opened, progress)
    more: dict[str, Any] = {"beside": beside} if beside else {}
    row.save(output, architecture, config, arrays, row.licence, origin, **more)
    return Conversion(
        architecture,
        row.licence,
        row.non_commercial,
        origin,
        count_parts(expected),
        sum(path.stat().st_size for path in Path(output).iterdir()),
        converted.report,
        tuple(path.name for path in beside),
    )


def _packaged(row: Architecture) -> tuple[Path, dict[str, str]]:
    """Return where a package keeps its weights, and what it is."""
    if row.package is None:
        raise ValueError(
            f"source is {PACKAGE!r}, expected a file: no package carries {row.title}"
        )
    found = row.package.find()
    folder = next(iter(found.values())).parent
    return folder, {
        "package": row.package.requirement,
        "notice": row.package.notice,
    }


def _not_these(source: Any, title: str, error: ValueError) -> str:
    return f"source is {os.fspath(source)!r}, expected the weights of {title} ({error})"


class _Sum:
    """Adds up what is done; Ctrl-C is heard here."""

    def __init__(self, on_progress: ProgressFn, total: int) -> None:
        self._on_progress, self._total, self._done = on_progress, total, 0

    def add(self, count: int) -> None:
        interrupts.check()
        self._done += count
        self._on_progress(self._done, self._total)


def _watched(
    converted: Converted, source: TensorSource, progress: _Sum
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield arrays; give back the memory of each once the next is asked for."""
    for path, array in converted.arrays():
        yield path, array
        progress.add(array.nbytes)
        del array
        source.release()


def _require_room(output: str | os.PathLike[str], num_bytes: int) -> None:
    """Say now what the disk would say when it is full."""
    folder = Path(os.path.abspath(output)).parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(
            f"output is {os.fspath(output)!r}, expected a place with room for "
            f"{num_bytes / 1e6:.0f} MB ({free / 1e6:.0f} MB are free)"
        )


def count_parts(tree: Any) -> dict[str, int]:
    """Return numbers of parameters by first level of a tree of shapes."""
    count: Counter[str] = Counter()
    for path, leaf in traverse_util.flatten_dict(tree).items():
        count[str(path[0])] += int(np.prod(leaf.shape))
    return dict(count)
