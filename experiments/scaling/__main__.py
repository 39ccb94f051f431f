"""Predict training on 1 to 256 chips from compiled steps and measured points.

Examples:
  python -m experiments.scaling --compile=reward,reward_cut --topology=v5e:2x4 \
      --json=experiments/results/scaling.json
  python -m experiments.scaling --measure --json=experiments/results/scaling.json
  python -m experiments.scaling --memory --json=experiments/results/scaling.json
  python -m experiments.scaling --json=experiments/results/scaling.json \
      --report=experiments/SCALING.md

--compile asks the compiler what a step needs, without any weights: for the devices
that are here, or with --topology for a TPU slice that is not (pip install 'jax[tpu]',
no TPU needed; some minutes a step). --measure takes steps on this machine's cores.
--memory asks the compiler what the policy step needs with more mixtures, targets and
masks (ten minutes). All add to the file; --report writes it out, and what follows.
"""

import dataclasses
import json
import pathlib
from typing import Any

from absl import flags

from experiments import command


def main() -> None:
    """Compile, measure and report what the flags name."""
    from experiments.scaling import report
    from experiments.scaling.steps import STEPS
    from marssep_jax.checkpoint.workdir import write_json

    values = flags.FLAGS
    if unknown := sorted(set(values.compile) - set(STEPS)):
        known = ", ".join(STEPS)
        raise ValueError(f"compile has {unknown[0]!r}, expected some of {known}")
    path = pathlib.Path(values.json)
    found = read(path)
    for name in values.compile:
        row = compiled_row(name, values.topology, quick=values.quick)
        print(report.memory_line(row), flush=True)
        same = (row["step"], row["topology"])
        others = [r for r in found["compiled"] if (r["step"], r["topology"]) != same]
        found["compiled"] = [*others, row]
        write_json(path, found)
    if values.measure:
        from experiments.scaling.measured import measure

        found["measured"] = measure(quick=values.quick)
        write_json(path, found)
    if values.memory:
        found["memory"] = swept(quick=values.quick)
        write_json(path, found)
    if values.report:
        pathlib.Path(values.report).write_text(report.text(found), encoding="utf-8")
    elif not (values.compile or values.measure or values.memory):
        print(report.text(found))


def read(path: pathlib.Path) -> dict[str, Any]:
    """Return what a file holds; nothing yet where there is none.

    Raises:
      ValueError: a file of something else.
    """
    if not path.exists():
        return {"compiled": [], "measured": None}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["compiled"], found["measured"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"json is {str(path)!r}, expected a scaling report") from error
    return found


def swept(*, quick: bool) -> dict[str, Any]:
    """Compile the policy step at many sizes and return what each needs."""
    from experiments.provenance import versions
    from experiments.scaling import memory

    rows = []
    for row in memory.sweep(quick=quick):
        sizes = ", ".join(f"{row[name]} {name}" for name in memory.FIXED)
        print(f"{sizes}: {row['peak_bytes'] / memory.GIB:.2f} GiB", flush=True)
        rows.append(row)
    return {"versions": versions(), "rows": rows}


def compiled_row(name: str, topology: str, *, quick: bool) -> dict[str, Any]:
    """Compile a step and return what the compiler says of it."""
    import jax

    from experiments.provenance import versions
    from experiments.scaling import programs, steps
    from marssep_jax.sharding import make_data_mesh

    step = steps.STEPS[name]
    if quick:
        step = dataclasses.replace(step, quick=True, rows=1, group_size=2)
    devices = programs.topology_devices(topology) if topology else jax.devices()
    mesh = make_data_mesh(devices)
    return {
        "step": name,
        "topology": topology or f"{mesh.size} {devices[0].device_kind}",
        "devices": mesh.size,
        **{key: getattr(step, key) for key in ("rows", "group_size", "precision")},
        "versions": versions(),
        **programs.describe(steps.compile_step(step, mesh)),
    }


if __name__ == "__main__":
    flags.DEFINE_list(
        "compile", [], "Steps to compile: supervised, reward, reward_cut."
    )
    flags.DEFINE_string("topology", "", "A TPU slice that is not here.")
    flags.DEFINE_bool("measure", False, "Take steps on this machine's cores.")
    flags.DEFINE_bool("memory", False, "Ask what a policy step of many sizes needs.")
    flags.DEFINE_bool("quick", False, "Small sizes: a check that all of it runs.")
    flags.DEFINE_string("json", None, "File of what was found.", required=True)
    flags.DEFINE_string("report", "", "File to write the report to.")
    command.run(main)
