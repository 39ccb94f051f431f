"""What a program shows on a terminal while it works, and how it complains."""

import os
import shutil
import sys
from typing import Any

from marssep_jax import interrupts
from marssep_jax.optional import one_line

LABEL_WIDTH = 40


class Progress:
    """A bar with the time that is left on a terminal, nothing elsewhere.

    Ctrl-C is heard here.
    """

    def __init__(self, label: str, place: str = "") -> None:
        """Start at nothing; the bar appears with the first share.

        Args:
          label: what is worked on; only the end of a long one is shown.
          place: what stands before it.
        """
        if len(label) > LABEL_WIDTH:
            label = "..." + label[3 - LABEL_WIDTH :]
        self._label = f"{place}{label}"
        self._bar: Any = None
        self._on = sys.stderr.isatty()

    def show(self, share: float) -> None:
        """Draw which share is done."""
        interrupts.check()
        if not self._on:
            return
        if self._bar is None:
            import tqdm  # not needed elsewhere

            size = shutil.get_terminal_size()
            self._bar = tqdm.tqdm(
                total=1.0,
                desc=self._label,
                leave=False,
                # A terminal that says it has no columns has 80 for this.
                ncols=size.columns,
                nrows=size.lines,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
            )
        self._bar.update(share - self._bar.n)

    def clear(self) -> None:
        """Make room for a line of text."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def drop_output() -> None:
    """Send what is still to be written to standard output nowhere: its reader has gone.

    Otherwise the interpreter tells of it when it ends.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def line_of(error: BaseException) -> str:
    """Return an error on one line, a kind that nobody expected with its name."""
    text = one_line(error)
    if isinstance(error, (ValueError, OSError, ImportError)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (MARSSEP_DEBUG=1 shows where)"


def complain(who: str, line: str) -> None:
    """Say what went wrong on one line of standard error."""
    print(f"{who}: {line}", file=sys.stderr, flush=True)


def wants_traceback() -> bool:
    """Say whether errors are to be raised as they are."""
    return bool(os.environ.get("MARSSEP_DEBUG"))
