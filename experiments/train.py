"""Train a separator: supervised, or by reinforcement from a supervised one.

Examples:
  python -m experiments.train --config=experiments/configs/quickstart.py \
      --workdir=runs/base --config.training.num_steps=2000
  python -m experiments.train --config=experiments/configs/quickstart.py \
      --workdir=runs/rl --config.stage=policy --config.start.separator=runs/base

The same command on the same workdir goes on where it stopped, also after a kill;
SIGTERM lets it save first and leave with status 143. --compile_only fills JAX's cache
ahead of time with what the run will need, and leaves the workdir alone. Run by several
processes together (--cluster, or --coordinator, --num_processes and --process_id), it
is one run over the devices of all of them; see experiments/launch.
"""

from absl import flags

from experiments import command, hosts

COMPILE_ONLY = flags.DEFINE_bool(
    "compile_only", False, "Compile into the cache what the run needs, and leave."
)


def main() -> None:
    """Train what the flags name."""
    from experiments.settings import resolve

    settings = resolve(flags.FLAGS.config)  # refuse it before JAX is there
    with hosts.joined():
        from experiments.stages import compile_stage, train_stage

        if COMPILE_ONLY.value:
            compile_stage(settings)
            return
        train_stage(settings, flags.FLAGS.workdir, checkpoints=flags.FLAGS.checkpoints)


if __name__ == "__main__":
    command.define_run_flags()
    hosts.define_flags()
    text = "Folder or bucket (gs://...) for checkpoints; None takes the workdir's own."
    flags.DEFINE_string("checkpoints", None, text)
    command.run(main)
