"""Disks that are full."""

import contextlib


def use_up(path):
    """Write a file until there is no room left."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4_096):
            pass
