"""Run a grid of variants over seeds, and make one table and one plot of it.

Examples:
  python -m experiments.ablate --grid=experiments/grids/policy.py:small \
      --workdir=runs/policy
  python -m experiments.ablate --grid=experiments/grids/test_mask.py \
      --workdir=runs/test_mask --runs=runs/shared --json=test_mask.json

Stages of equal settings and seed are run once, whichever variants ask for them; with
the same --runs also whichever grids. Every stage is a process of its own. The same
command goes on where it stopped; a run that fails is told at the end, the others go on.
Writes table.md, table.json and plot.png to the workdir, and curves.png where the grid
names curves.
"""

import pathlib
import sys
import time
from typing import Any

from absl import flags

from experiments import command


def main() -> None:
    """Run what has not been run, and say what it shows."""
    values = flags.FLAGS
    from experiments.ablation import plan as plans
    from experiments.ablation.grid import load_grid, select
    from experiments.ablation.workers import read_record, run_groups
    from experiments.judges import require_weights
    from experiments.progress import progress_of
    from marssep_jax.cli_options import check_json

    if values.jobs < 0:
        raise ValueError(f"--jobs is {values.jobs}, expected 0 or more")
    check_json(values.json)
    grid = select(load_grid(values.grid), values.variants, values.seeds)
    folder = pathlib.Path(values.workdir)
    runs = pathlib.Path(values.runs or folder / "runs")
    plan = plans.make_plan(grid, runs, values.data_dir)
    ended = {key for key in plan.tasks if read_record(runs, key) is not None}
    left = {key: task for key, task in plan.tasks.items() if key not in ended}
    print(f"{describe(plan)}; {len(ended)} of {len(plan.tasks)} have ended", flush=True)
    if values.dry_run:
        for key in left:
            print(key)
        return
    require_weights(
        name for task in left.values() for name in task.test.get("judges", ())
    )
    folder.mkdir(parents=True, exist_ok=True)
    hear, begun = progress_of("ablate", len(plan.tasks)), time.monotonic()
    done = set(ended)

    def on_done(key: str) -> None:
        done.add(key)
        hear(len(done))

    groups = plans.make_groups(left)
    failed = run_groups(groups, runs, jobs=values.jobs, done=on_done)
    write(values, grid, plan, runs, failed, time.monotonic() - begun)
    for key, why in failed.items():
        print(f"failed: {key}: {why}", file=sys.stderr)
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(plan.tasks)} runs failed, see {folder / 'table.md'}"
        )


def describe(plan: Any) -> str:
    """Say how many runs there are, and how many sharing saves."""
    asked = sum(len(cell) for cell in plan.cells.values())
    return f"{len(plan.tasks)} runs for {asked} stages of {len(plan.cells)} cells"


def write(
    values: Any,
    grid: Any,
    plan: Any,
    runs: pathlib.Path,
    failed: dict[str, str],
    wall_s: float,
) -> None:
    """Write table and plot."""
    from experiments.ablation import curves, results, tables
    from experiments.provenance import machine, versions
    from marssep_jax.checkpoint.workdir import write_json

    records = results.read_records(plan, runs)
    rows = results.summarise(grid, plan, records, failed)
    revisions = sorted({str(record["revision"]) for record in records.values()})
    table = {
        "title": grid.title,
        "grid": values.grid,
        "reference": grid.reference,
        "seeds": list(grid.seeds),
        "machine": machine(),
        "versions": versions(),
        "git_revisions": revisions,
        "wall_s": round(wall_s, 1),
        "runs_wall_s": round(sum(r["metrics"]["wall_s"] for r in records.values()), 1),
        "peak_mb": max((r["metrics"]["peak_mb"] for r in records.values()), default=0),
        "variants": rows,
    }
    drawn = curves.read_curves(grid, plan, runs)
    if grid.curves:
        table["curves"] = drawn
    folder = pathlib.Path(values.workdir)
    said = f"python -m experiments.ablate --grid={values.grid}"
    if values.variants:
        said += f" --variants='{','.join(values.variants)}'"
    if values.seeds:
        said += f" --seeds={','.join(values.seeds)}"
    text = tables.markdown(grid, rows, said)
    if drawn:
        text += "\n" + curves.markdown(grid, drawn)
        curves.save_curves(grid, drawn, folder / "curves.png")
    (folder / "table.md").write_text(text, encoding="utf-8")
    write_json(folder / "table.json", table)
    if values.json:
        write_json(pathlib.Path(values.json), table)
    tables.save_plot(grid, rows, folder / "plot.png")
    print(text)


if __name__ == "__main__":
    flags.DEFINE_string("grid", None, "A grid file, FILE or FILE:SCALE.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of table and plot.", required=True)
    flags.DEFINE_string("runs", None, "Folder of the runs; default WORKDIR/runs.")
    flags.DEFINE_string("data_dir", "data", "Folder of all data sets.")
    flags.DEFINE_list("variants", "", "Only these, with commas and * in them.")
    flags.DEFINE_list("seeds", "", "Only these of the grid's seeds, with commas.")
    flags.DEFINE_integer(
        "jobs", 0, "Most runs at once; 0 leaves it to memory and cores."
    )
    flags.DEFINE_bool("dry_run", False, "Say what is left to run, and run nothing.")
    flags.DEFINE_string("json", None, "Write table.json to this file too.")
    command.run(main)
