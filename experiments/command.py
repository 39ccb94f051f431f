"""How every program of this folder starts, fails and stops."""

import sys
from collections.abc import Callable
from typing import NoReturn

from absl import flags


def run(main: Callable[[], None], argv: list[str] | None = None) -> NoReturn:
    """Parse flags, run a program and leave with the promised exit status.

    0 is success, also of ``--help``; 1 is bad input, told in one line on standard
    error; 130 is Ctrl-C.

    Args:
      main: The program; it reads ``absl.flags.FLAGS``.
      argv: Command line; None takes the process's own.
    """
    argv = sys.argv if argv is None else argv
    if {"--help", "-h", "-help"} & set(argv[1:]):
        print(sys.modules[main.__module__].__doc__)
        print(flags.FLAGS.module_help(main.__module__))
        sys.exit(0)
    try:
        rest = flags.FLAGS(argv)
        if rest[1:]:
            raise ValueError(f"argument is {rest[1]!r}, expected flags only")
        main()
    except KeyboardInterrupt:
        _leave("stopped", 130)
    except (flags.Error, ValueError, OSError) as error:
        _leave(f"error: {error}", 1)
    sys.exit(0)


def _leave(message: str, status: int) -> NoReturn:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(status)
