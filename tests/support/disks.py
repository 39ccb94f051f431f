"""Disks that are small, and full."""

import contextlib
import subprocess

import pytest


def use_up(path):
    """Write a file until there is no room left."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4_096):
            pass


@contextlib.contextmanager
def mounted(disk, size):
    """Mount a disk of a size such as ``4m``; skip the test where that is forbidden."""
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system needs privileges")
    yield disk
    # Lazily: clips of a data set on it may still be mapped.
    subprocess.run(["umount", "-l", str(disk)], check=True)


def read_only(disk):
    """Let nothing be written on a mounted disk any more."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
