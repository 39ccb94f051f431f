"""The machine and the versions that timings depend on."""

import importlib.metadata
import os
from typing import Any

import jax

from experiments import provenance

PACKAGES = ("torch", "transformers", "imagebind-unofficial", "mir_eval", "scipy")
TENSORFLOW = ("tensorflow-cpu", "tensorflow")


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_cpu() -> bool:
    """Say whether JAX computes on the host."""
    return jax.default_backend() == "cpu"


def machine() -> dict[str, Any]:
    """Return processor, cores and what JAX computes on."""
    return {
        "description": provenance.machine(),
        "cores": num_cores(),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
    }


def versions() -> dict[str, str]:
    """Return the versions of this package, of JAX's and of the references."""
    found = provenance.versions()
    for name in (*PACKAGES, *TENSORFLOW):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
