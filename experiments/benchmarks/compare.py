"""Compare speedups with those of an earlier report."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

ALLOWED_LOSS = 0.15
"""Share of a speedup that may be lost before it counts as worse."""


class Change(NamedTuple):
    """A speedup before and after."""

    name: str
    before: float
    after: float

    @property
    def is_worse(self) -> bool:
        """Whether more was lost than chance may take."""
        return self.after < (1.0 - ALLOWED_LOSS) * self.before

    def __str__(self) -> str:
        """Say both, and the change in percent."""
        percent = 100.0 * (self.after / self.before - 1.0)
        return f"{self.name}: {self.before:.3g} to {self.after:.3g} ({percent:+.0f} %)"


SAME = ("machine", "versions", "revision")
"""What rows of one report have in common."""


def kept_rows(
    earlier: Mapping[str, Any], now: Mapping[str, Any], suites: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows of suites that are not measured again.

    Args:
      earlier: the report that they are in.
      now: machine, versions and revision of this run.
      suites: what is measured again.

    Raises:
      ValueError: they were measured on something else.
    """
    for key in SAME:
        if earlier.get(key) != now[key]:
            raise ValueError(
                f"{key} of the report to add to is {earlier.get(key)}, "
                f"expected {now[key]}"
            )
    rows = earlier["rows"]
    return [row for row in rows if row["name"].partition(".")[0] not in suites]


def load_report(path: str, *, tiny: bool, name: str = "compare") -> dict[str, Any]:
    """Read an earlier report.

    Args:
      path: its file.
      name: of the flag that gives it.
      tiny: whether it is to be one of the sizes for tests.

    Raises:
      ValueError: not a report, or one of other sizes.
    """
    report = read_report(path, name=name)
    if bool(report.get("tiny")) is not tiny:
        sizes = "tiny" if tiny else "full"
        raise ValueError(f"{name} is {path!r}, expected a report of the {sizes} sizes")
    return report


def read_report(path: str, *, name: str) -> dict[str, Any]:
    """Read a report of any sizes.

    Args:
      path: its file.
      name: of the flag that gives it.

    Raises:
      ValueError: not a report.
    """
    try:
        report = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        is_report = isinstance(report, dict) and isinstance(report["rows"], list)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name} is {path!r}, expected a report ({error})") from error
    if not is_report:
        raise ValueError(f"{name} is {path!r}, expected a report of this program")
    return dict(report)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return the change of every speedup that both reports have."""
    old, new = (
        {row["name"]: row["speedup"] for row in report["rows"] if "speedup" in row}
        for report in (before, after)
    )
    return [Change(name, old[name], new[name]) for name in new if name in old]


def uncompared(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the rows of the new report that have nothing to be compared with."""
    compared = {change.name for change in changes(before, after)}
    return [row["name"] for row in after["rows"] if row["name"] not in compared]


def hold_against(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    path: str,
    measure: Callable[[str], Sequence[Mapping[str, Any]]],
) -> None:
    """Print what became worse.

    A suite that seems to have lost is measured once more, and the better of both
    counts: other work on the machine takes more from a round than most changes do.

    Args:
      before: the earlier report.
      after: this run's.
      path: the earlier report's file.
      measure: suite -> its rows.

    Raises:
      ValueError: a speedup is too far below that of the earlier report.
    """
    if before.get("machine") != after["machine"]:
        print(f"note: {path} was measured on {before.get('machine')}")
    for name in uncompared(before, after):
        print(f"not compared: {name}")
    found = changes(before, after)
    doubtful = {change.name.partition(".")[0] for change in found if change.is_worse}
    for suite in sorted(doubtful):
        print(f"{suite}: seems worse, once more", flush=True)
        again = changes(before, {"rows": measure(suite)})
        second = {change.name: change for change in again}
        found = [
            max(change, second.get(change.name, change), key=lambda each: each.after)
            for change in found
        ]
    worse = [change for change in found if change.is_worse]
    for change in worse:
        print(f"worse: {change}")
    print(f"{len(found)} speedups compared, {len(worse)} worse")
    if worse:
        names = ", ".join(change.name for change in worse)
        raise ValueError(
            f"speedup of {names} is lower, expected at most {100 * ALLOWED_LOSS:.0f} % "
            f"below {path}"
        )
