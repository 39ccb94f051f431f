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
    from experiments.benchmarks.compare import hold_against, load_report
    from experiments.benchmarks.rows import table
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
        found["rows"] += measure(suite)
        print(f"{suite}: {time.monotonic() - begun:.0f} s", flush=True)
        if JSON.value:
            write_json(pathlib.Path(JSON.value), found)
    print(table(found["rows"]))
    if "files" in asked:
        from experiments.benchmarks.files import cost_table

        print(f"\n{cost_table(found['rows'])}")
    if before is not None:
        hold_against(before, found, str(against), measure)


def measure(suite: str) -> list[dict[str, Any]]:
    """Return a suite's rows, as the flags ask for them."""
    from experiments.benchmarks.suites import measure_suite

    options: dict[str, Any] = {}
    if suite == "roofline":
        options["trace"] = TRACE.value
    if suite == "update":
        options["compiled"] = QUICK not in SUITE.value
    return measure_suite(suite, tiny=TINY.value, **options)


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


if __name__ == "__main__":
    command.run(main)
