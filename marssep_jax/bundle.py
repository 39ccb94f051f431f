"""Portable models: one folder that holds parameters and what they mean.

``bundle.json`` holds the settings and the layout of the parameters, and
``parameters.npz`` the arrays. A zip of plain arrays is as small as any other
container here, runs no code when it is read, and any NumPy opens it. The layout
is data, so a reader needs no template; a SHA-256 ties the two files together.
"""

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from marssep_jax.config import EncoderConfig, from_dict
from marssep_jax.encoders.backbones import (
    backbones_of,
    digests_of,
    with_frozen,
    without_frozen,
)
from marssep_jax.folders import reason_of, write_bytes, written_whole
from marssep_jax.model_names import find_model, may_be_name, model_names
from marssep_jax.types import Params

FORMAT = "marssep-bundle"
FORMAT_VERSION = 1
RECORD, ARRAYS = "bundle.json", "parameters.npz"
EXPECTED = "the folder of a trained model"
# Where a workdir keeps its model.
SUBFOLDERS = ("model", "checkpoint")


class ModelBundle(NamedTuple):
    """A trained model.

    ``config`` has the keys ``frontend``, ``separator``, ``encoder`` and ``judge``
    (records of ``config.py`` as dicts, None where there is none), and
    ``class_names``, ``step``, ``stage``, ``licence`` and ``versions``.
    Parameters are nested dicts of arrays, or None for a part that is missing;
    ``encoder_params`` holds those of ``encoder`` and, if it has one, ``fusion``.
    Frozen trunks of published weights are not written: their folder is named, and
    they are mapped from it when the bundle is read.
    """

    config: dict[str, Any]
    separator_params: Params
    model_state: Params
    encoder_params: Params
    judge_params: Params | None


PARTS = ModelBundle._fields[1:]


def save_bundle(
    path: str | os.PathLike[str], bundle: ModelBundle, *, half: bool = False
) -> None:
    """Write a bundle, replacing one that is there; whole or not at all.

    Args:
      path: folder to write.
      bundle: what to write.
      half: keep float32 as float16, in half the room; it is float32 again when read,
        within 0.05 % of what it was.

    Raises:
      ValueError: a file or another folder is in the way, parameters that are not
        nested dicts of arrays, or numbers beyond what half precision holds.
      OSError: no room, or no permission.
    """
    arrays: dict[str, np.ndarray] = {}
    digests, bundle = _lightened(bundle)
    layout = {part: _flatten(getattr(bundle, part), (part,), arrays) for part in PARTS}
    if half:
        arrays = {name: _halved(array) for name, array in arrays.items()}
    with written_whole(path, RECORD, "a model") as partial:
        digest = _write_arrays(partial / ARRAYS, arrays)
        record = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "config": bundle.config,
            "sha256": digest,
            "backbones": digests,
            "layout": layout,
        }
        write_bytes(partial / RECORD, (json.dumps(record, indent=1) + "\n").encode())


def load_bundle(path: str | os.PathLike[str]) -> ModelBundle:
    """Read a bundle into NumPy arrays; see `resolve_bundle` for workdirs.

    Raises:
      ValueError: another folder, or a damaged or foreign model.
    """
    folder = Path(path)
    record = _read_record(folder)
    try:
        raw = (folder / ARRAYS).read_bytes()
        if hashlib.sha256(raw).hexdigest() != record["sha256"]:
            raise ValueError(f"its {ARRAYS} is damaged")
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            parts = {
                part: _unflatten(record["layout"][part], (part,), arrays)
                for part in PARTS
            }
        bundle = ModelBundle(dict(record["config"]), **parts)
        return _completed(bundle, record.get("backbones", {}))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"checkpoint is {str(path)!r}, expected {EXPECTED} ({reason_of(error)})"
        ) from error


def _lightened(bundle: ModelBundle) -> tuple[dict[str, str], ModelBundle]:
    """Leave out frozen trunks, and say by digests what they were."""
    config = _encoder_config(bundle)
    if config is None:
        return {}, bundle
    params = dict(bundle.encoder_params)
    params["encoder"] = without_frozen(config, params["encoder"])
    return digests_of(config), bundle._replace(encoder_params=params)


def _completed(bundle: ModelBundle, digests: Mapping[str, str]) -> ModelBundle:
    """Put frozen trunks back."""
    config = _encoder_config(bundle)
    if config is None:
        return bundle
    params = dict(bundle.encoder_params)
    params["encoder"] = with_frozen(config, params["encoder"], digests)
    return bundle._replace(encoder_params=params)


def _encoder_config(bundle: ModelBundle) -> EncoderConfig | None:
    """Return the settings of an encoder that has frozen trunks; mostly None."""
    values = bundle.config.get("encoder")
    if not values or bundle.encoder_params is None:
        return None
    config = from_dict(EncoderConfig, values)
    return config if backbones_of(config) else None


def resolve_bundle(path: str | os.PathLike[str]) -> Path:
    """Return the bundle folder that a path or a name means.

    Args:
      path: a bundle, a workdir that holds one as ``model`` or ``checkpoint``, or a
        name of `marssep_jax.model_names`; what lies at a path comes first.

    Raises:
      ValueError: none of them.
    """
    folder = Path(path)
    named = None if folder.exists() else find_model(os.fspath(path))
    for place in (folder, named) if named else (folder,):
        for candidate in (place, *(place / name for name in SUBFOLDERS)):
            if _is_bundle(candidate):
                return candidate
    reason = f"it holds no {RECORD}"
    if not folder.is_dir():
        reason = "no such folder"
        if may_be_name(path) and (names := model_names()):
            reason += f", and the names are {', '.join(names)}"
    elif (folder / "checkpoints").is_dir():
        reason = "its training has not finished"
    raise ValueError(f"checkpoint is {str(path)!r}, expected {EXPECTED} ({reason})")


def _is_bundle(folder: Path) -> bool:
    return (folder / RECORD).is_file()


def _flatten(
    tree: Params, place: tuple[str, ...], arrays: dict[str, np.ndarray]
) -> Any:
    """Collect arrays by path and return the layout: dicts, leaves and None."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {
            str(name): _flatten(child, (*place, str(name)), arrays)
            for name, child in tree.items()
        }
    if not hasattr(tree, "dtype"):
        raise ValueError(
            f"{'/'.join(place)} is {type(tree).__name__}, expected an array or a dict"
        )
    array = np.asarray(tree)
    arrays[f"a{len(arrays)}"] = _portable(array)
    return [f"a{len(arrays) - 1}", str(array.dtype), list(array.shape)]


def _unflatten(
    layout: Any, place: tuple[str, ...], arrays: Mapping[str, np.ndarray]
) -> Params:
    if layout is None:
        return None
    if isinstance(layout, dict):
        return {
            name: _unflatten(child, (*place, name), arrays)
            for name, child in layout.items()
        }
    name, dtype, shape = layout
    array = arrays[name]
    if array.shape != tuple(shape):
        raise ValueError(f"{'/'.join(place)} has shape {array.shape}, not {shape}")
    if array.dtype == np.float16:  # may stand for float32
        return array.astype(jnp.dtype(dtype))
    return array.view(jnp.dtype(dtype))


def _halved(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.float32:
        return array
    largest, most = float(np.abs(array).max(initial=0.0)), float(np.finfo("f2").max)
    if largest > most:
        raise ValueError(
            f"a parameter is {largest:g}, expected at most {most:g} at half precision"
        )
    return array.astype(np.float16)


def _portable(array: np.ndarray) -> np.ndarray:
    """View what NumPy has no name for (bfloat16, float8) as unsigned integers."""
    if array.dtype.kind != "V":
        return array
    # Not ascontiguousarray, which makes a scalar a vector.
    return np.asarray(array, order="C").view(f"u{array.dtype.itemsize}")


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> str:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    raw = buffer.getvalue()
    write_bytes(path, raw)
    return hashlib.sha256(raw).hexdigest()


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError(f"its {RECORD} describes something else")
        if record.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"format {record.get('format_version')}, this version reads "
                f"{FORMAT_VERSION}"
            )
        missing = [k for k in ("frontend", "separator") if k not in record["config"]]
        if missing:
            raise ValueError(f"its config has no {missing[0]!r}")
        return record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"checkpoint is {str(folder)!r}, expected {EXPECTED} ({reason_of(error)})"
        ) from error
