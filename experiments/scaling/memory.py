"""What a policy step needs of memory, by mixtures, targets and masks of a group."""

from collections.abc import Iterator
from typing import Any

import jax

from experiments.scaling import programs, steps
from marssep_jax.sharding import make_data_mesh

GIB, MB = 2**30, 1e6
ROWS, TARGETS, MASKS = (16, 32, 64, 128), (2, 3, 4), (2, 4, 8, 16)
FIXED = {"rows": 32, "targets": 2, "masks": 8}
"""What the two others are while one varies; rows vary at these too."""


def sweep(*, quick: bool) -> Iterator[dict[str, Any]]:
    """Compile steps of one device and yield a row for each; nothing is computed.

    Each is the policy step of the published separator in float32, heard by ImageBind's
    ear; a row of no masks is the supervised step.

    Args:
      quick: tiny sizes, for tests.
    """
    cells = [{**FIXED, "rows": rows} for rows in ROWS]
    cells += [{**FIXED, "targets": targets} for targets in TARGETS[1:]]
    cells += [{**FIXED, "masks": masks} for masks in MASKS if masks != FIXED["masks"]]
    cells += [{**FIXED, "rows": rows, "masks": 0} for rows in ROWS[-2:]]
    mesh = make_data_mesh(jax.devices()[:1])
    for cell in cells:
        step = steps.Step(
            reward=cell["masks"] > 0,
            rows=cell["rows"],
            targets=cell["targets"],
            group_size=cell["masks"],
            precision="float32",
            quick=quick,
        )
        found = programs.describe(steps.compile_step(step, mesh))
        yield cell | {
            "device": mesh.devices.flat[0].device_kind,
            "argument_bytes": found["argument_bytes"],
            "temporary_bytes": found["temporary_bytes"],
            "peak_bytes": found["peak_bytes"],
        }


def slopes(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return bytes for one more of each, between the two largest sizes.

    ``rows`` and ``supervised_rows`` are of a mixture; ``targets`` and ``masks`` of a
    target or mask more in each of the ``FIXED`` mixtures, divided by their number.
    """
    found = {}
    policy = [row for row in rows if row["masks"]]
    for name in ("rows", "targets", "masks"):
        others = {key: FIXED[key] for key in FIXED if key != name}
        line = [row for row in policy if others.items() <= row.items()]
        share = 1 if name == "rows" else FIXED["rows"]
        found[name] = _slope(line, name) / share
    found["supervised_rows"] = _slope([r for r in rows if not r["masks"]], "rows")
    return found


def _slope(line: list[dict[str, Any]], name: str) -> float:
    first, last = sorted(line, key=lambda row: row[name])[-2:]
    return float(last["peak_bytes"] - first["peak_bytes"]) / (last[name] - first[name])
