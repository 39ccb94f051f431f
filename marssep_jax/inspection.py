"""Say what a checkpoint is: settings, step, parameters, licence, sizes."""

import os
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from marssep_jax.bundle import ModelBundle, load_bundle, resolve_bundle
from marssep_jax.config import EncoderConfig, from_dict
from marssep_jax.encoders.backbones import backbones_of, licence_of
from marssep_jax.models.separator import count_parameters
from marssep_jax.weights.store import is_encoder, load_encoder

PARTS = ("separator_params", "model_state", "encoder_params", "judge_params")


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a checkpoint's description, ready for JSON.

    Args:
      path: a model, a workdir that holds one, or a converted encoder.

    Raises:
      ValueError, OSError: not a checkpoint.
    """
    if is_encoder(path):
        return _describe_encoder(Path(path))
    folder = Path(resolve_bundle(path))
    bundle: ModelBundle = load_bundle(folder)
    config = dict(bundle.config)
    return {
        "path": str(folder),
        "stage": config.get("stage"),
        "step": config.get("step"),
        "licence": config.get("licence"),
        **_published(config.get("encoder")),
        "parameters": {part: count_parameters(getattr(bundle, part)) for part in PARTS},
        "size_bytes": _size_of(folder),
        "config": config,
    }


def _published(encoder: dict[str, Any] | None) -> dict[str, Any]:
    """Return the licences of the published weights that a model stands on."""
    rows = backbones_of(from_dict(EncoderConfig, encoder)) if encoder else ()
    found = {row.field: f"{licence_of(row)} ({row.folder})" for row in rows}
    return {"licence_of": found} if found else {}


def _describe_encoder(folder: Path) -> dict[str, Any]:
    record, _ = load_encoder(folder)
    count: Counter[str] = Counter()
    for name, entry in record["layout"].items():
        count[name.partition("/")[0]] += prod(entry["shape"])
    return {
        "path": str(folder),
        "architecture": record["architecture"],
        "licence": record["licence"],
        "source": record["source"] | {"files": record.get("files", {})},
        "dtypes": sorted({entry["dtype"] for entry in record["layout"].values()}),
        "parameters": dict(count),
        "size_bytes": _size_of(folder),
        "config": record["config"] | {"versions": record["versions"]},
    }


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def render(report: dict[str, Any]) -> str:
    """Return the description as aligned lines."""
    rows = {"checkpoint": report["path"]}
    for name in ("architecture", "stage", "step", "licence"):
        if name in report:
            rows[name] = report[name]
    rows["size"] = f"{report['size_bytes'] / 1e6:.2f} MB"
    if "dtypes" in report:
        rows["dtype"] = _shown(report["dtypes"])
    known = set(rows)
    rows |= {part: f"{n:,}" for part, n in report["parameters"].items()}
    rows |= _flat("licence_of", report.get("licence_of", {}))
    rows |= _flat("source", report.get("source", {}))
    for key, value in report["config"].items():
        if key not in known:
            rows |= _flat(key, value)
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _flat(name: str, value: Any) -> dict[str, str]:
    """Return a row for every leaf of nested settings."""
    if not isinstance(value, dict):
        return {name: _shown(value)}
    rows = [_flat(f"{name}.{key}", entry) for key, entry in value.items()]
    return {key: entry for row in rows for key, entry in row.items()}


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
