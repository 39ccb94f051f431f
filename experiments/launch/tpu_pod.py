"""Train on a Cloud TPU slice: make it, put code and data on it, train, delete it.

Examples:
  python -m experiments.launch.tpu_pod --name=marssep --zone=us-west4-a \
      --accelerator=v5litepod-16 --tasks=create,install
  python -m experiments.launch.tpu_pod --name=marssep --zone=us-west4-a \
      --tasks=data,train --data=gs://BUCKET/data -- \
      --config=experiments/configs/vggsound_rl.py --workdir=runs/vggsound_rl \
      --checkpoints=gs://BUCKET/runs/vggsound_rl

Needs gcloud, configured. What stands after -- goes to experiments.train, the same on
every worker; --checkpoints has to be a bucket, because workers share no disk. The other
files of the workdir lie on worker 0. After a lost worker, --tasks=train goes on.
"""

from absl import flags

from experiments.launch.commands import run_or_show, shown, start, training_flags

TASKS = ("create", "install", "data", "train", "delete")
FOLDER = "marssep_jax"
SCRIPT = f"{FOLDER}/experiments/launch/tpu_pod.sh"
LEFT_OUT = (".git", ".venv", "data", "runs")


def main() -> None:
    """Do what the flags name, one task after the other."""
    values = flags.FLAGS
    for task in values.tasks:
        if task not in TASKS:
            known = ", ".join(TASKS)
            raise ValueError(f"tasks has {task!r}, expected some of {known}")
    table = {
        "create": _create,
        "install": _install,
        "data": _data,
        "train": _train,
        "delete": _delete,
    }
    run_or_show([words for task in values.tasks for words in table[task]()])


def _create() -> list[list[str]]:
    """Queue for the slice: it is made once there is room."""
    values = flags.FLAGS
    words = [
        *_gcloud("queued-resources", "create", values.name),
        f"--node-id={values.name}",
        f"--accelerator-type={values.accelerator}",
        f"--runtime-version={values.runtime}",
    ]
    return [[*words, *(["--spot"] if values.spot else [])]]


def _install() -> list[list[str]]:
    archive = f"{FOLDER}.tar.gz"
    skipped = [f"--exclude=./{name}" for name in LEFT_OUT]
    unpack = f"mkdir -p {FOLDER} && tar -xzf {archive} -C {FOLDER}"
    return [
        ["tar", "-czf", f"/tmp/{archive}", *skipped, "."],
        [
            *_gcloud("tpu-vm", "scp", f"/tmp/{archive}"),
            f"{flags.FLAGS.name}:{archive}",
            "--worker=all",
        ],
        _on_workers(f"{unpack} && bash {SCRIPT} install"),
    ]


def _data() -> list[list[str]]:
    source = flags.FLAGS.data
    if not source.startswith("gs://"):
        raise ValueError(f"data is {source!r}, expected gs://BUCKET/FOLDER")
    return [_on_workers(f"bash {shown([SCRIPT, 'data', source])}")]


def _train() -> list[list[str]]:
    training = training_flags()
    if not any(word.startswith("--checkpoints=gs://") for word in training):
        raise ValueError(
            "--checkpoints=gs://... is missing, expected it after --: workers share "
            "no disk"
        )
    return [_on_workers(f"bash {shown([SCRIPT, 'train', *training])}")]


def _delete() -> list[list[str]]:
    name = flags.FLAGS.name
    return [[*_gcloud("queued-resources", "delete", name), "--force", "--quiet"]]


def _on_workers(line: str) -> list[str]:
    """Return the command that runs a line of shell on every worker at once."""
    words = _gcloud("tpu-vm", "ssh", flags.FLAGS.name)
    return [*words, "--worker=all", f"--command={line}"]


def _gcloud(*words: str) -> list[str]:
    values = flags.FLAGS
    found = ["gcloud", "compute", "tpus", *words, f"--zone={values.zone}"]
    return [*found, f"--project={values.project}"] if values.project else found


if __name__ == "__main__":
    flags.DEFINE_list("tasks", "train", f"What to do, of {', '.join(TASKS)}.")
    flags.DEFINE_string("name", None, "Name of the slice.", required=True)
    flags.DEFINE_string("zone", None, "Its zone.", required=True)
    flags.DEFINE_string("project", "", "Its project, if not gcloud's own.")
    flags.DEFINE_string("accelerator", "v5litepod-8", "Its kind and size.")
    flags.DEFINE_string("runtime", "v2-alpha-tpuv5-lite", "Its system image.")
    flags.DEFINE_bool("spot", False, "Take what may be taken away again.")
    flags.DEFINE_string("data", "", "Bucket folder that becomes data/ on every worker.")
    start(main)
