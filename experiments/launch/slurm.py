"""Submit one training to Slurm, over the GPUs of one or several nodes.

Examples:
  python -m experiments.launch.slurm --nodes=2 --gpus_per_node=8 --time=12:00:00 -- \
      --config=experiments/configs/vggsound_rl.py --workdir=/shared/runs/vggsound_rl
  python -m experiments.launch.slurm --dry_run --partition=gpu --restarts=3 -- \
      --config=experiments/configs/quickstart.py --workdir=/shared/runs/base

One process a GPU; JAX learns from Slurm which is which. What stands after -- goes to
experiments.train. The workdir has to be on a disk that all nodes share. Run it in the
checkout, with the environment activated that the nodes shall use.
"""

import os

from absl import flags

from experiments.launch.commands import run_or_show, start, training_flags

SCRIPT = "experiments/launch/slurm.sh"


def main() -> None:
    """Submit what the flags name."""
    values = flags.FLAGS
    sizes = values.flag_values_dict()
    for name in ("nodes", "gpus_per_node", "cpus_per_gpu"):
        if sizes[name] < 1:
            raise ValueError(f"{name} is {sizes[name]}, expected >= 1")
    if values.restarts < 0:
        raise ValueError(f"restarts is {values.restarts}, expected >= 0")
    run_or_show([submission(training_flags())])


def submission(training: list[str]) -> list[str]:
    """Return the command that submits a training.

    All tasks of a node see all of its GPUs: each takes that of its own number.

    Args:
      training: flags of the training.
    """
    values = flags.FLAGS
    words = [
        "sbatch",
        f"--job-name={values.job_name}",
        f"--nodes={values.nodes}",
        f"--ntasks-per-node={values.gpus_per_node}",
        f"--gpus-per-node={values.gpus_per_node}",
        f"--cpus-per-task={values.cpus_per_gpu}",
        f"--time={values.time}",
        f"--chdir={os.getcwd()}",
        f"--export=ALL,MARSSEP_RESTARTS={values.restarts}",
        "--requeue",
        "--open-mode=append",
    ]
    for name in ("partition", "account"):
        if value := values[name].value:
            words.append(f"--{name}={value}")
    return [*words, SCRIPT, *training]


if __name__ == "__main__":
    flags.DEFINE_integer("nodes", 1, "How many nodes.")
    flags.DEFINE_integer("gpus_per_node", 8, "GPUs, and processes, of each.")
    flags.DEFINE_integer("cpus_per_gpu", 8, "Cores for each process.")
    flags.DEFINE_string("time", "24:00:00", "Time limit, as sbatch takes it.")
    flags.DEFINE_string("job_name", "marssep", "Name of the job.")
    flags.DEFINE_string("partition", "", "Partition, if one has to be named.")
    flags.DEFINE_string("account", "", "Account, if one has to be named.")
    flags.DEFINE_integer("restarts", 3, "Starts after a process was lost, at most.")
    start(main)
