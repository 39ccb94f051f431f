"""Lay out what was compiled, measured and predicted, as a page of Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from experiments.scaling import memory, model
from marssep_jax.listening import WAVES_AT_ONCE

GIB = memory.GIB
TITLES = {
    "supervised": "separator, supervised",
    "reward": "policy step, ImageBind hears the estimates, all parameters copied",
    "reward_cut": "the same, parameters cut over the devices",
}
HEAD = """# Scaling

    python -m experiments.scaling --compile=supervised,reward,reward_cut \\
        --topology=v5e:2x4 --json=experiments/results/scaling.json
    python -m experiments.scaling --measure --json=experiments/results/scaling.json
    python -m experiments.scaling --memory --json=experiments/results/scaling.json
    python -m experiments.scaling --json=experiments/results/scaling.json \\
        --report=experiments/SCALING.md

made this page. The first asks XLA's TPU compiler, which needs `pip install 'jax[tpu]'`
and no TPU; the second takes steps on two CPU cores; the third asks the compiler of the
device that is here, for one of them. **Measured** is only what the
section of that name says; memory, work and traffic are the compiler's figures for one
device; throughput is **predicted** from them and was seen on no chip.

The separator is the published one (30.3 M parameters, clips of 65,535 samples, two
targets a mixture). ImageBind is the published size, 1,073 M parameters in float32, of
which a reward reads the 86 M of its ear: words and pictures come as vectors. Here all
of it is kept on the devices, to show the worst case; activations are bfloat16.
"""


def memory_line(row: dict[str, Any]) -> str:
    """Say in a line what a step needs on each device."""
    parts = ", ".join(
        f"{name} {row[f'{name}_bytes'] / GIB:.2f}"
        for name in ("argument", "output", "aliased", "temporary")
    )
    peak = row["peak_bytes"] / GIB
    return f"{row['step']} on {row['topology']}: {peak:.2f} GiB a device ({parts})"


def text(found: dict[str, Any]) -> str:
    """Return the report.

    Args:
      found: rows of what was ``compiled``, and what was ``measured``.
    """
    compiled = sorted(
        found["compiled"], key=lambda row: list(TITLES).index(row["step"])
    )
    parts = [HEAD, _memory(compiled)]
    if found.get("memory"):
        parts.append(_sizes(found["memory"]))
    parts.append(_work(compiled))
    if found["measured"]:
        parts.append(_measured(found["measured"]))
    parts.append(_assumptions())
    for row in compiled:
        parts += [_predicted(row, name) for name in model.CHIPS]
    return "\n".join(parts)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def _room(row: dict[str, Any]) -> list[str]:
    """Return arguments, temporary and all memory in GiB."""
    names = ("argument", "temporary", "peak")
    return [f"{row[f'{name}_bytes'] / GIB:.2f}" for name in names]


def _memory(compiled: list[dict[str, Any]]) -> str:
    rows = [
        (
            TITLES[row["step"]],
            row["topology"],
            row["rows"],
            row["group_size"] if row["step"] != "supervised" else "",
            *_room(row),
            "yes" if row["peak_bytes"] < 16e9 else "**no**",
        )
        for row in compiled
    ]
    head = ("step", "devices", "rows", "masks", "arguments", "temporary", "in all")
    return (
        "## Memory of a device, GiB\n\n"
        "From the compiler's memory analysis; arguments are parameters, optimiser and "
        "batch, and outputs take their place.\n\n"
        + table((*head, "fits in 16 GB"), rows)
    )


def _sizes(swept: dict[str, Any]) -> str:
    rows = swept["rows"]
    cells = [
        (
            row["rows"],
            row["targets"],
            row["masks"] or "supervised",
            *_room(row),
        )
        for row in rows
    ]
    slope = {name: value / memory.MB for name, value in memory.slopes(rows).items()}
    fixed, versions = memory.FIXED, swept["versions"]
    head = ("mixtures", "targets", "masks", "arguments", "temporary", "in all")
    return (
        "## Memory of a policy step by its sizes, GiB\n\n"
        f"One device ({rows[0]['device']}), float32, ImageBind's ear alone; jax "
        f"{versions['jax']}. Arguments hold the parameters of both networks, the "
        "optimiser's two moments and the batch. Another compiler may need more.\n\n"
        + table(head, cells)
        + f"\nA mixture more takes {slope['rows']:.0f} MB: "
        f"{slope['supervised_rows']:.0f} are the supervised step's, activations that "
        "the network keeps for the way back, the same for any number of masks because "
        f"it runs once; {fixed['masks'] * slope['masks']:.0f} are its {fixed['masks']} "
        f"masks, at {slope['masks']:.1f} each for {fixed['targets']} targets: mask, "
        "log-densities and estimate, which the update needs; the rest is what its "
        "targets take to be heard. Hearing does not grow with the masks: "
        f"{WAVES_AT_ONCE} estimates at once, or one mask of every target where a batch "
        "has more targets than that. So all is linear in the mixtures where it has, "
        f"and flatter below. A target more takes {slope['targets']:.0f} MB a mixture: "
        "masks, spectrum and being heard. The paper reports 35.5 GB for one mask a "
        "target.\n"
    )


def _work(compiled: list[dict[str, Any]]) -> str:
    rows = []
    for row in compiled:
        sent = "; ".join(
            f"{kind} {part['bytes'] / 1e6:.0f} MB in {part['count']}"
            for kind, part in sorted(row["collectives"].items())
        )
        work = (f"{row['flops'] / 1e12:.2f}", f"{row['accessed_bytes'] / 1e9:.1f}")
        rows.append((TITLES[row["step"]], *work, sent or "none"))
    head = ("step", "10^12 operations", "GB read and written", "collectives")
    return (
        "## Work and traffic of a device in one step\n\n"
        "Collectives are counted in the compiled program, by the size of the whole "
        "array.\n\n" + table(head, rows)
    )


def _measured(measured: dict[str, Any]) -> str:
    points, rows = measured["points"], []
    for point in points:
        alone = next(row for row in points if row["step"] == point["step"])
        best, first = min(point["seconds"]), min(alone["seconds"])
        speed = point["devices"] * point["rows"] / best
        span = f"{best:.2f} to {max(point['seconds']):.2f}"
        gain = speed / (alone["rows"] / first)
        row = (point["step"], point["layout"], span, f"{speed:.3f}", f"{gain:.2f}")
        rows.append(row)
    head = ("step", "layout", "seconds a step", "mixtures a second", "times the first")
    return (
        "## Measured\n\n"
        f"{measured['machine']}; jax {measured['versions']['jax']}. Full size, "
        "float32, one row a device, two masks a target; ImageBind's ear alone; weights "
        "at random. Two devices share the machine's memory bandwidth.\n\n"
        + table(head, rows)
    )


def _assumptions() -> str:
    lines = [
        "## Assumptions\n",
        f"- A step takes the longer of operations at {model.COMPUTE_SHARE:.0%} and of "
        f"memory traffic at {model.MEMORY_SHARE:.0%} of the specification.",
        "- Then it talks: collectives are rings, an all-reduce goes round twice, and "
        f"links give {model.LINK_SHARE:.0%} of the specification. Nothing overlaps "
        "with computing, although much can. Every turn of a ring costs a delay as "
        "well, which is what grows with the chips; trees, which libraries use among "
        "many nodes, would wait less.",
        "- Rows a device stay the same, so the batch grows with the chips; what XLA "
        "sends does not depend on their number but for (n - 1) / n.",
        "- Input keeps up. Evaluation and checkpoints are not counted.",
        "- Figures of the program are those of the TPU compiler for the H100 too.",
    ]
    for chip in model.CHIPS.values():
        lines.append(
            f"- {chip.name}: {chip.flops / 1e12:.0f}e12 operations a second "
            f"(bfloat16), memory {chip.memory / 1e9:.0f} GB/s and "
            f"{chip.capacity / 1e9:.0f} GB, links {chip.near / 1e9:.0f} GB/s among "
            f"{chip.group} chips, beyond them {chip.far / 1e9:.0f} GB/s, a delay of "
            f"{chip.hop_s * 1e3:g} ms a turn."
        )
    return "\n".join(lines) + "\n"


def _predicted(row: dict[str, Any], name: str) -> str:
    chip = model.CHIPS[name]
    rows = [
        (
            point["chips"],
            f"{1e3 * point['step_s']:.1f}",
            f"{point['talk_share']:.0%}",
            f"{point['mixtures_per_s']:,.0f}",
            f"{point['efficiency']:.0%}",
        )
        for point in model.predict(chip, row, row["rows"])
    ]
    head = ("chips", "ms a step", "of it talking", "mixtures a second", "efficiency")
    title = f"## Predicted: {TITLES[row['step']]}; {chip.name}"
    return f"{title}\n\n{row['rows']} mixtures a chip.\n\n" + table(head, rows)
