"""Say what a checkpoint is: settings, step, parameters, licence, sizes."""

import os
from pathlib import Path
from typing import Any

from marssep_jax.bundle import ModelBundle, load_bundle, resolve_bundle
from marssep_jax.models.separator import count_parameters

PARTS = ("separator_params", "model_state", "encoder_params", "judge_params")


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a checkpoint's description, ready for JSON.

    Raises:
      ValueError, OSError: not a checkpoint.
    """
    folder = Path(resolve_bundle(path))
    bundle: ModelBundle = load_bundle(folder)
    config = dict(bundle.config)
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {
        "path": str(folder),
        "stage": config.get("stage"),
        "step": config.get("step"),
        "licence": config.get("licence"),
        "parameters": {part: count_parameters(getattr(bundle, part)) for part in PARTS},
        "size_bytes": sum(file.stat().st_size for file in files),
        "config": config,
    }


def render(report: dict[str, Any]) -> str:
    """Return the description as aligned lines."""
    rows = {
        "checkpoint": report["path"],
        "stage": report["stage"],
        "step": report["step"],
        "licence": report["licence"],
        "size": f"{report['size_bytes'] / 1e6:.2f} MB",
    }
    rows |= {part: f"{n:,}" for part, n in report["parameters"].items()}
    for key, value in report["config"].items():
        if isinstance(value, dict):
            rows |= {f"{key}.{name}": _shown(entry) for name, entry in value.items()}
        elif key not in rows:
            rows[key] = _shown(value)
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
