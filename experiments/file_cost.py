"""What separating files of chosen lengths costs; see `experiments.benchmarks.files`.

Examples:
  python -m experiments.file_cost --models=small --lengths=120,7200 --batches=1
  python -m experiments.file_cost --json=file_cost.json

`python -m experiments.benchmark --suite=files` measures a minute among other timings.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from experiments import command

MODELS = ("small", "full")


def main() -> None:
    """Measure what the flags name."""
    values = flags.FLAGS
    from experiments.benchmarks.files import (
        WARM_UP_S,
        Case,
        cost_table,
        measure_apart,
    )
    from experiments.provenance import machine, versions
    from marssep_jax.checkpoint.workdir import write_json
    from marssep_jax.cli_options import check_json

    check_json(values.json)
    unknown = sorted(set(values.models) - set(MODELS))
    if unknown or not values.models:
        known = ", ".join(MODELS)
        raise ValueError(f"--models is {values.models}, expected some of {known}")
    batches = _numbers("--batches", values.batches, 1)
    lengths = _numbers("--lengths", values.lengths, WARM_UP_S)
    rows = []
    for model in values.models:
        for batch in batches:
            for seconds in lengths:
                rows.append(measure_apart(Case(model, seconds, batch)))
                print(cost_table(rows).splitlines()[-1], flush=True)
    print(f"\n{machine()}\n\n{cost_table(rows)}")
    if values.json:
        record = {"machine": machine(), "versions": versions(), "rows": rows}
        write_json(pathlib.Path(values.json), record)


def _numbers(name: str, given: Sequence[str], least: int) -> list[int]:
    try:
        numbers = [int(one) for one in given]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < least:
        raise ValueError(f"{name} is {','.join(given)!r}, expected numbers >= {least}")
    return numbers


if __name__ == "__main__":
    flags.DEFINE_list("models", ",".join(MODELS), "small and full, with commas.")
    flags.DEFINE_list("lengths", "60,600", "Seconds of sound, with commas.")
    flags.DEFINE_list("batches", "1,4", "Windows of a step, with commas.")
    flags.DEFINE_string("json", None, "Write the rows to this file.")
    command.run(main)
