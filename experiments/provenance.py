"""Where results come from: versions, revision, machine."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

from marssep_jax._version import __version__

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of what results may depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    python = ".".join(map(str, sys.version_info[:3]))
    return {"marssep_jax": __version__, "python": python, **found}


def revision() -> str | None:
    """Return the git revision of this file's repository, if it is in one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=pathlib.Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def provenance() -> dict[str, Any]:
    """Return what a workdir's ``config.json`` says beside the settings."""
    return {"revision": revision(), "versions": versions()}


def machine() -> str:
    """Return processor, cores and system in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    count = cores or os.cpu_count() or 1
    return f"{_processor()}, {count} cores, {platform.system()} {platform.machine()}"


def _processor() -> str:
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"
