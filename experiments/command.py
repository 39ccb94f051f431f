"""How every program of this folder starts, fails and stops."""

import hashlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import flags

from experiments.config_files import check_flag
from experiments.provenance import machine
from marssep_jax import interrupts
from marssep_jax.terminal import drop_output

EXPECTED = (ValueError, OSError, ImportError)
"""What bad input, a full disk or a missing package raise."""


def run(main: Callable[[], None], argv: list[str] | None = None) -> NoReturn:
    """Parse flags, run a program and leave with the promised exit status.

    0 is success, also of ``--help``; 1 is bad input, told in one line on standard
    error; 130 is Ctrl-C, 143 SIGTERM, before which a training saves its state: the
    same command goes on from there; 141 says that whoever read the output has gone.
    MARSSEP_DEBUG=1 shows where an error comes from.

    Args:
      main: The program; it reads ``absl.flags.FLAGS``.
      argv: Command line; None takes the process's own.
    """
    argv = sys.argv if argv is None else argv
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(sys.modules[main.__module__].__doc__)
        print(flags.FLAGS.module_help(main.__module__))
        sys.exit(0)
    interrupts.install()
    keep_compiled()
    try:
        _parse(argv)
        main()
        interrupts.check()
        sys.stdout.flush()  # here, where a reader that has gone is known
    except BrokenPipeError:  # such as `head`, which has seen enough: nothing to tell
        drop_output()
        sys.exit(141)
    except KeyboardInterrupt:
        _leave("stopped", 130)
    except interrupts.Termination:
        _leave("terminated", 143)
    except Exception as error:
        if os.environ.get("MARSSEP_DEBUG"):
            raise
        if isinstance(error, (*EXPECTED, flags.Error)):
            _leave(f"error: {error}", 1)
        kind = type(error).__name__
        _leave(f"error: {kind}: {error} (MARSSEP_DEBUG=1 shows where)", 1)
    sys.exit(0)


def keep_compiled() -> None:
    """Keep compiled programs in the user's cache, for later stages and runs.

    JAX_COMPILATION_CACHE_DIR chooses another folder. Programs of one processor
    may not run on another, so each kind has a folder of its own.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    kind = hashlib.sha256(machine().encode()).hexdigest()[:8]
    folder = os.path.join(root, "marssep_jax", f"compiled-{kind}")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:  # no home, or one that cannot be written
        return
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    # A chain compiles hundreds of small programs: by default only long ones are kept.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def define_run_flags() -> None:
    """Define the flags of a program that trains: ``--config`` and ``--workdir``."""
    define_config_flag()
    flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)


def define_config_flag() -> None:
    """Define ``--config``, whose keys flags may change."""
    from ml_collections import config_flags

    config_flags.DEFINE_config_file("config", None, "Settings, a Python file.")
    flags.mark_flag_as_required("config")


def _parse(argv: list[str]) -> None:
    if "config" in flags.FLAGS:
        check_flag(argv[1:])
    try:
        rest = flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:  # ml_collections, of a config key
        known = [key for key in argv[1:] if key.startswith("--config.")]
        text = " ".join(str(error).replace("\\n", " ").replace("\\", "").split())
        key = next((k for k in known if k.split("=")[0].split(".")[-1] in text), "")
        key = key.split("=")[0] or "--config"
        raise ValueError(f"{key} is unknown, expected a key of the config") from error
    if rest[1:]:
        raise ValueError(f"argument is {rest[1]!r}, expected flags only")


def _leave(message: str, status: int) -> NoReturn:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(status)
