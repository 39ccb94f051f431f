"""Time this package against named references, alternately in one process.

Examples:
  python -m experiments.benchmark --json=benchmark.json
  python -m experiments.benchmark --suite=quick
  python -m experiments.benchmark --suite=sampler,separate --tiny
  python -m experiments.benchmark --suite=files
  python -m experiments.benchmark --suite=roofline --trace=traces --json=roofline.json
  python -m experiments.benchmark --suite=update --json=benchmark.json --add
  python -m experiments.benchmark --json=new.json \
      --compare=experiments/results/benchmark.json

Speedups are the reference's seconds over ours, each of its best round. A reference
that is not installed leaves its row unmeasured (pip install -e '.[bench]', and what
tests/parity/requirements-no-deps.txt lists for the published encoders). --compare
fails if a speedup is more than 15 % below that of an earlier report, and is again when
its suite is measured once more. The suite "quick" stands for those of the package's own
work that are soon measured, compared with the report that is kept.
"""

import os
import pathlib
import sys
import time
from typing import Any

from absl import flags

from experiments import command
from experiments.benchmarks.suites import KEPT_REPORT, QUICK, SUITES, expand

SUITE = flags.DEFINE_list("suite", ",".join(SUITES), "What to time, with commas.")
TINY = flags.DEFINE_bool("tiny", False, "Tiny sizes: a check that all of it runs.")
COMPARE = flags.DEFINE_string(
    "compare",
    None,
    f"An earlier report to be no worse than; of suite {QUICK} the one that is kept.",
)
JSON = flags.DEFINE_string("json", None, "Write the report to this file.")
TRACE = flags.DEFINE_string("trace", None, "Keep the roofline's profiles here.")
ADD = flags.DEFINE_bool("add", False, "Keep the file's rows of other suites.")


def main() -> None:
    """Time what the flags name."""
    # JAX takes three quarters of a GPU's memory at its start, and PyTorch needs as much
    # as JAX does. Of the variable's two names only one may be set.
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", ".45")
    from experiments.benchmarks.compare import load_report
    from experiments.benchmarks.rows import table
    from experiments.benchmarks.suites import measure_suite
    from marssep_jax import interrupts
    from marssep_jax.checkpoint.workdir import write_json
    from marssep_jax.cli_options import check_json

    asked = expand(SUITE.value)
    if TRACE.value and "roofline" not in asked:
        raise ValueError(f"trace is {TRACE.value!r}, expected --suite=roofline with it")
    check_json(JSON.value)
    against = COMPARE.value
    if against is None and QUICK in SUITE.value and not TINY.value:
        against = str(KEPT_REPORT)
    before = load_report(against, tiny=TINY.value) if against else None
    found = start_report(asked)
    for suite in asked:
        interrupts.check()
        begun = time.monotonic()
        options = options_of(suite)
        found["rows"] += measure_suite(suite, tiny=TINY.value, **options)
        print(f"{suite}: {time.monotonic() - begun:.0f} s", flush=True)
        if JSON.value:
            write_json(pathlib.Path(JSON.value), found)
    print(table(found["rows"]))
    if "files" in asked:
        from experiments.benchmarks.files import cost_table

        print(f"\n{cost_table(found['rows'])}")
    if before is not None:
        hold_against(before, found, str(against))


def options_of(suite: str) -> dict[str, Any]:
    """Return what the flags ask of a suite."""
    if suite == "roofline":
        return {"trace": TRACE.value}
    if suite == "update":
        return {"compiled": QUICK not in SUITE.value}
    return {}


def start_report(asked: list[str]) -> dict[str, Any]:
    """Return what timings depend on, with the rows that are kept."""
    from experiments.benchmarks import facts
    from experiments.benchmarks.compare import kept_rows, load_report
    from experiments.provenance import revision

    found: dict[str, Any] = {
        "machine": facts.machine(),
        "versions": facts.versions(),
        "revision": revision(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": " ".join(["python -m experiments.benchmark", *sys.argv[1:]]),
        "tiny": TINY.value,
        "rows": [],
    }
    if ADD.value:
        if not JSON.value:
            raise ValueError("--add is given without --json, expected a file to add to")
        earlier = load_report(JSON.value, tiny=TINY.value, name="json")
        found["rows"] = kept_rows(earlier, found, asked)
    return found


def hold_against(before: dict[str, Any], after: dict[str, Any], path: str) -> None:
    """Print what became worse.

    A suite that seems to have lost is measured once more, and the better of both
    counts: other work on the machine takes more from a round than most changes do.

    Args:
      before: the earlier report.
      after: this run's.
      path: the earlier report's file.

    Raises:
      ValueError: a speedup is too far below that of the earlier report.
    """
    from experiments.benchmarks.compare import ALLOWED_LOSS, changes, uncompared
    from experiments.benchmarks.suites import measure_suite

    if before.get("machine") != after["machine"]:
        print(f"note: {path} was measured on {before.get('machine')}")
    for name in uncompared(before, after):
        print(f"not compared: {name}")
    found = changes(before, after)
    doubtful = {change.name.partition(".")[0] for change in found if change.is_worse}
    for suite in sorted(doubtful):
        print(f"{suite}: seems worse, once more", flush=True)
        options = options_of(suite)
        again = {"rows": measure_suite(suite, tiny=after["tiny"], **options)}
        second = {change.name: change for change in changes(before, again)}
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


if __name__ == "__main__":
    command.run(main)
