"""From one device's work to the throughput of many: a roofline and rings."""

from collections.abc import Mapping
from typing import Any, NamedTuple

COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
COMPUTE_SHARE, MEMORY_SHARE, LINK_SHARE = 0.4, 0.7, 0.8
"""Shares of the specification that are assumed to be reached."""


class Chip(NamedTuple):
    """A chip by its specification, bytes and operations a second.

    ``near`` is the bandwidth between chips in groups of ``group`` and ``far`` beyond
    them, each of one direction of a ring; ``hop_s`` is the delay of a step of it.
    """

    name: str
    flops: float
    memory: float
    capacity: float
    near: float
    group: int
    far: float
    hop_s: float


CHIPS = {
    # 2 x 50 GB/s on an axis of the torus: a ring goes both ways.
    "v5e": Chip("TPU v5e", 197e12, 819e9, 16e9, 90e9, 256, 3e9, 1e-6),
    # NVLink inside a node, 400 Gb/s of InfiniBand a GPU between nodes.
    "h100": Chip("H100 SXM", 989e12, 3_350e9, 80e9, 450e9, 8, 50e9, 5e-6),
}


def step_seconds(chip: Chip, facts: Mapping[str, Any], count: int) -> dict[str, float]:
    """Predict a step on ``count`` chips, each with as many rows as on one.

    Args:
      chip: the chip.
      facts: of `experiments.scaling.programs.describe`.
      count: how many chips.

    Returns:
      Seconds of ``compute`` (the larger of operations and memory traffic), of
      ``talk`` and of both, one after the other: nothing is assumed to overlap.
    """
    compute = max(
        facts["flops"] / (COMPUTE_SHARE * chip.flops),
        facts["accessed_bytes"] / (MEMORY_SHARE * chip.memory),
    )
    talk = sum(
        _ring_seconds(chip, kind, row, count)
        for kind, row in facts["collectives"].items()
    )
    return {"compute": compute, "talk": talk, "step": compute + talk}


def _ring_seconds(chip: Chip, kind: str, row: Mapping[str, int], count: int) -> float:
    """A ring passes (n - 1) / n of an array round, a reduction twice."""
    if count == 1:
        return 0.0
    bandwidth = LINK_SHARE * (chip.near if count <= chip.group else chip.far)
    turns = 2 if kind == "all-reduce" else 1
    moved = turns * row["bytes"] * (count - 1) / count
    return moved / bandwidth + turns * row["count"] * (count - 1) * chip.hop_s


def predict(
    chip: Chip, facts: Mapping[str, Any], rows: int, counts: tuple[int, ...] = COUNTS
) -> list[dict[str, float]]:
    """Return a row of throughput for every number of chips.

    Args:
      chip: the chip.
      facts: of one device's step.
      rows: mixtures a device.
      counts: numbers of chips.

    Returns:
      ``chips``, ``step_s``, ``talk_share``, ``mixtures_per_s`` and ``efficiency``, the
      throughput against that many times one chip's.
    """
    alone = rows / step_seconds(chip, facts, 1)["step"]
    found = []
    for count in counts:
        seconds = step_seconds(chip, facts, count)
        speed = count * rows / seconds["step"]
        found.append(
            {
                "chips": count,
                "step_s": seconds["step"],
                "talk_share": seconds["talk"] / seconds["step"],
                "mixtures_per_s": speed,
                "efficiency": speed / (count * alone),
            }
        )
    return found
