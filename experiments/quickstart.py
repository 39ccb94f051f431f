"""From nothing to a reinforced separator, with a report of what it can do.

Examples:
  python -m experiments.quickstart --workdir=runs/quickstart
  python -m experiments.quickstart --workdir=/tmp/debug \
      --config=experiments/configs/debug.py

Prepares the data, aligns the small encoder, trains the judge and the supervised
base, reinforces it, trains the base on for as long, evaluates all three on
recordings that no stage saw, and writes report.html, summary.json, figure.png,
wav/ and checkpoint/. What is there already is kept.
"""

from absl import flags

from experiments import command


def main() -> None:
    """Run what has not been run."""
    values = flags.FLAGS
    from experiments.chain import run_chain

    run_chain(values.config, values.workdir, values.data_dir)


if __name__ == "__main__":
    flags.DEFINE_string(
        "config",
        "experiments/configs/quickstart.py",
        "Settings of all stages, a Python file.",
    )
    flags.DEFINE_string("workdir", "runs/quickstart", "Folder of the run.")
    flags.DEFINE_string("data_dir", "data", "Folder of all data sets.")
    command.run(main)
