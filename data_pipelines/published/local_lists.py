"""Lists that come with the audio: DCASE 2024 Task 9 and AudioSep's evaluation sets.

Their columns are taken by place: Clotho's header names two of them alike, and names
in DCASE's begin with a space.
"""

import csv
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from data_pipelines.folder_table import BadRows
from data_pipelines.published.plans import Plan, Planned, Recording

DCASE_LIST = "lass_synthetic_validation.csv"
DCASE_AUDIO = "lass_validation"


class Columns(NamedTuple):
    """How one of AudioSep's lists is laid out.

    Attributes:
      width: Columns of a row.
      words: Column of the words that ask for the target.
      files: From a row to the files of target and mixture, under the set's folder.
    """

    width: int
    words: int
    files: Callable[[Sequence[str]], tuple[str, str]]


def _numbered(row: Sequence[str]) -> tuple[str, str]:
    return f"segment-{row[0]}.wav", f"mixture-{row[0]}.wav"


def _audioset(row: Sequence[str]) -> tuple[str, str]:
    """Take what follows the set's folder in the paths of its repository."""
    source, mixture = ("/".join(cell.split("/")[-2:]) for cell in row[2:4])
    return source, mixture


def _vggsound(row: Sequence[str]) -> tuple[str, str]:
    return row[2], row[1]


AUDIOSEP = {
    "audiocaps": Columns(5, 1, _numbered),  # idx, caption, labels, source, noise
    "audioset": Columns(4, 1, _audioset),  # class, label, source, mixture
    "clotho": Columns(5, 1, _numbered),  # idx, caption, source, noise, noise
    "esc50": Columns(4, 1, _numbered),  # idx, label, source, noise
    "music": Columns(4, 1, _numbered),  # idx, label, source, noise
    "vggsound": Columns(6, 3, _vggsound),  # id, mix, s0, label, s1, label
}
"""Of ``evaluation/metadata/NAME_eval.csv``; audio lies in ``evaluation/data/NAME``."""


def read_dcase(name: str, manual_dir: pathlib.Path) -> Plan:
    """Read DCASE 2024 Task 9's validation mixtures: source, noise, SNR, caption.

    Args:
      name: What mixtures are called.
      manual_dir: Folder of the list; recordings lie there or in lass_validation.

    Raises:
      ValueError: no list, or a bad row, named by its line.
    """
    table = _find(manual_dir, [DCASE_LIST])
    folder = _audio_folder(table.parent, [f"{DCASE_AUDIO}/{DCASE_AUDIO}", DCASE_AUDIO])

    def plan(number: int, row: list[str]) -> Planned:
        source, noise, snr, caption = row
        level = float(snr)
        if not -100 <= level <= 100:
            raise ValueError
        pair = (
            Recording(source, folder / f"{source}.wav"),
            Recording(noise, folder / f"{noise}.wav"),
        )
        return Planned(f"{name}-{number:04d}", pair, caption, snr_db=level)

    return _read(table, 4, "source, noise, SNR in dB, caption", plan)


def read_audiosep(name: str, which: str, manual_dir: pathlib.Path) -> Plan:
    """Read one of AudioSep's lists.

    Args:
      name: What mixtures are called.
      which: Key of AUDIOSEP.
      manual_dir: Its folder ``evaluation``, or one that holds the list and, there or
        in ``data/SET`` or ``SET``, the audio.

    Raises:
      ValueError: no list, or a bad row, named by its line.
    """
    columns = AUDIOSEP[which]
    lists = [f"{place}{which}_eval.csv" for place in ("", "metadata/", "lists/")]
    lists += [f"evaluation/{path}" for path in lists]
    table = _find(manual_dir, lists)
    places = [f"{at}data/{which}" for at in ("", "evaluation/")] + [which]
    folder = _audio_folder(manual_dir, places)

    def plan(number: int, row: list[str]) -> Planned:
        target, mixture = columns.files(row)
        pair = (
            Recording(target, folder / target),
            Recording(mixture, folder / mixture),
        )
        return Planned(f"{name}-{number:04d}", pair, row[columns.words])

    return _read(table, columns.width, "words and files", plan)


def _find(manual_dir: pathlib.Path, names: Sequence[str]) -> pathlib.Path:
    for name in names:
        if (manual_dir / name).is_file():
            return manual_dir / name
    raise ValueError(
        f"manual_dir is {str(manual_dir)!r}, expected the list {names[0]} in it"
    )


def _audio_folder(base: pathlib.Path, places: Sequence[str]) -> pathlib.Path:
    found = [base / place for place in places if (base / place).is_dir()]
    return found[0] if found else base


def _complete(planned: Planned) -> Planned:
    if not planned.words or not all(recording.id for recording in planned.recordings):
        raise ValueError
    return planned


def _read(
    table: pathlib.Path,
    count: int,
    expected: str,
    plan: Callable[[int, list[str]], Planned],
) -> Plan:
    """Read a list with a header; rows keep their numbers whatever is missing."""
    raw = table.read_bytes()
    try:
        lines = raw.decode("utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is no text, expected CSV in UTF-8") from error
    mixtures: list[Planned] = []
    problems: list[str] = []
    reader = csv.reader(lines)
    next(reader, None)
    for row in reader:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        number = len(mixtures) + len(problems)
        try:
            if len(cells) != count:
                raise ValueError
            mixtures.append(_complete(plan(number, cells)))
        except ValueError:
            problems.append(
                f"{table}:{reader.line_num}: row is {','.join(row)!r}, expected "
                f"{count} columns: {expected}"
            )
    if problems:
        raise BadRows(problems)
    if not mixtures:
        raise ValueError(f"{table} has no rows, expected at least one mixture")
    return Plan(tuple(mixtures), hashlib.sha256(raw).hexdigest(), str(table))
