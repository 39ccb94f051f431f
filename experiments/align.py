"""Align the reward's encoder in the paper's three stages, and train the judge.

Example:
  python -m experiments.align --config=experiments/configs/quickstart.py \
      --workdir=runs/listeners

The same command on the same workdir goes on where it stopped.
"""

from absl import flags

from experiments import command


def main() -> None:
    """Train what listens."""
    from experiments.settings import resolve

    settings = resolve(flags.FLAGS.config)  # refuse it before JAX is there
    from experiments.listeners import train_listeners

    train_listeners(settings, flags.FLAGS.workdir)


if __name__ == "__main__":
    command.define_run_flags()
    command.run(main)
