"""What a compiler says of a program: memory, work, and what devices send each other."""

import os
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

_TYPES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
_TYPES |= {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "u64": 8, "c64": 8}
KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALL = re.compile(rf" = (.*?) ({'|'.join(KINDS)})(-start)?\((.*)")
_GROUP = re.compile(r"replica_groups=\{\{([\d,]+)\}|replica_groups=\[(\d+),(\d+)\]")


def topology_devices(name: str) -> Sequence[jax.Device]:
    """Return the devices of a TPU slice that is not there, such as ``v5e:2x4``.

    Raises:
      ValueError: no such slice, or libtpu is not installed.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(name, "tpu").devices
    except Exception as error:  # libtpu's own, of several kinds
        text = " ".join(str(error).split())[:160]
        raise ValueError(
            f"topology is {name!r}, expected one that libtpu knows "
            f"(pip install 'jax[tpu]'): {text}"
        ) from error


def describe(compiled: jax.stages.Compiled) -> dict[str, Any]:
    """Return bytes and operations of one device in one step."""
    memory: Any = compiled.memory_analysis()
    cost: Any = compiled.cost_analysis() or {}
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes
    used += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return {
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "aliased_bytes": memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "peak_bytes": used,
        "flops": float(cost.get("flops", 0.0)),
        "accessed_bytes": float(cost.get("bytes accessed", 0.0)),
        "collectives": collectives(compiled.as_text() or ""),
    }


def collectives(text: str) -> dict[str, dict[str, int]]:
    """Count what a program sends, by kind of operation.

    ``bytes`` are those of the whole array: what is reduced, what there is after
    gathering, or before scattering.

    Args:
      text: of the compiled program.
    """
    found: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        match = _CALL.search(line)
        if match is None:
            continue
        result, kind, started, rest = match.groups()
        sizes = [_size(*shape) for shape in _SHAPE.findall(result)]
        if started and kind != "all-reduce":
            sizes = sizes[len(sizes) // 2 :]  # operands come first
        size = sum(sizes)
        if kind == "reduce-scatter":
            size *= _members(rest)
        row = found.setdefault(kind, {"count": 0, "bytes": 0})
        row["count"] += 1
        row["bytes"] += size
    return found


def _size(name: str, sizes: str) -> int:
    numbers = [int(size) for size in sizes.split(",") if size]
    return _TYPES.get(name, 0) * int(np.prod(numbers, dtype=np.int64))


def _members(text: str) -> int:
    """Return how many devices take part."""
    match = _GROUP.search(text)
    if match is None:
        return 1
    listed, _, size = match.groups()
    return len(listed.split(",")) if listed else int(size)
