"""What launchers share: the training's flags, and commands that are shown or run."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import flags

from experiments import command

TRAIN = ("python", "-m", "experiments.train")
_training: list[str] = []


def start(main: Callable[[], None]) -> NoReturn:
    """Run a launcher; what stands after ``--`` is kept for `training_flags`."""
    argv = list(sys.argv)
    if "--" in argv:
        place = argv.index("--")
        argv, _training[:] = argv[:place], argv[place + 1 :]
    flags.DEFINE_bool("dry_run", False, "Print the commands and run nothing.")
    command.run(main, argv)


def training_flags() -> list[str]:
    """Return the flags of the training.

    Raises:
      ValueError: those without which no training starts are missing.
    """
    for name in ("config", "workdir"):
        if not any(word.startswith(f"--{name}=") for word in _training):
            raise ValueError(f"--{name}= is missing, expected it after --")
    return list(_training)


def shown(words: Sequence[str]) -> str:
    """Return a command as a shell takes it."""
    return shlex.join(words)


def run_or_show(commands: Sequence[Sequence[str]]) -> None:
    """Run commands one after the other, or print them where ``--dry_run`` says so.

    Raises:
      ValueError: a command that is not installed, or that failed.
    """
    for words in commands:
        print(shown(words), flush=True)
        if flags.FLAGS.dry_run:
            continue
        try:
            done = subprocess.run(words, check=False)
        except FileNotFoundError as error:
            raise ValueError(
                f"{words[0]} is not installed, expected it on the path"
            ) from error
        if done.returncode:
            raise ValueError(f"{words[0]} ended with status {done.returncode}")
