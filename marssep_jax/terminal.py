"""What a program shows on a terminal while it works."""

import sys

from marssep_jax import interrupts


class Progress:
    """A percentage on a terminal, nothing elsewhere; Ctrl-C is heard here."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._on = sys.stderr.isatty()

    def show(self, share: float) -> None:
        """Draw which share is done."""
        interrupts.check()
        if self._on:
            filled = int(24 * share)
            bar = "#" * filled + "." * (24 - filled)
            print(f"\r\033[K{bar} {share:4.0%} {self._label}", end="", file=sys.stderr)

    def clear(self) -> None:
        """Make room for a line of text."""
        if self._on:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
