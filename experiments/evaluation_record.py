"""From rows to what an evaluation says: JSON, tables, verdicts."""

import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from experiments.evaluation_plan import Plan
from experiments.provenance import versions
from experiments.score_rows import Scored
from experiments.systems import MODEL, OTHER, System
from marssep_jax.evaluation import compare, items, pair_scores, summarise

METRICS = ("si_sdr_db", "si_sdri_db", "sdri_db", "sdr_db", "sir_db", "sar_db", "judge")
COLUMNS = {
    "si_sdr_db": "SI-SDR",
    "si_sdri_db": "SI-SDRi",
    "sdri_db": "SDRi",
    "sdr_db": "SDR",
    "sir_db": "SIR",
    "sar_db": "SAR",
    "judge": "judge",
    "clap_text": "CLAP text",
    "clap_audio": "CLAP audio",
}
BESIDE = ("_accuracy", "_margin")
"""How metrics end that comparisons have and wide tables have no room for."""

NAMED = 5
"""Most missing estimates that are named on the screen; the JSON names all."""


def make_record(
    plan: Plan, found: Mapping[str, Scored], flags: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the summary of an evaluation, ready for JSON but for its items.

    Args:
      plan: what was scored.
      found: scores by system.
      flags: ``checkpoint``, ``manifest``, ``mask`` and ``compare`` as they were given.
    """
    manifest = plan.work.tests.manifest
    summaries = {name: summarise(one.evaluation) for name, one in found.items()}
    record: dict[str, Any] = {
        "checkpoint": flags["checkpoint"],
        "manifest": flags["manifest"],
        "dataset": manifest["dataset"],
        "split": manifest["split"],
        "mask": flags["mask"],
        "run": str(plan.run),
        "num_mixtures": len(plan.names),
        "judge": plan.judge,
        "judges": plan.judges,
        "more_judges": plan.more_judges,
        "versions": versions(),
        "evaluation": summaries.get(MODEL, {}),
        "table": [
            {"system": system.name, "title": system.title, "kind": kind, **scores}
            for system in plan.work.systems
            for kind, scores in summaries[system.name].items()
        ],
    }
    if OTHER in found:
        record["compare"] = flags["compare"]
        record["paired"] = compare(found[MODEL].evaluation, found[OTHER].evaluation)
    folders = [s for s in plan.work.systems if s.lacks == "missing"]
    if folders:
        record["estimates"] = {s.title: _folder(s, found) for s in folders}
    return record


def _folder(system: System, found: Mapping[str, Scored]) -> dict[str, Any]:
    """Return what lacks of a folder of estimates, and how the model compares."""
    own = found[system.name]
    record: dict[str, Any] = {
        "num_missing": len(own.missing),
        "missing": list(own.missing),
    }
    if MODEL in found:
        (theirs,) = own.evaluation.scores.values()
        record["model_minus_these"] = {
            kind: pair_scores(scores, theirs)
            for kind, scores in found[MODEL].evaluation.scores.items()
        }
    return record


def write_record(
    path: pathlib.Path, record: Mapping[str, Any], found: Mapping[str, Scored]
) -> None:
    """Write the summary with the model's targets, whole or not at all.

    Targets are written as they come: of 10,000 mixtures there are many.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            head = json.dumps(record, indent=1)
            file.write(head.removesuffix("\n}") + ',\n "items": [')
            rows = items(found[MODEL].evaluation) if MODEL in found else iter(())
            for number, row in enumerate(rows):
                file.write(",\n  " if number else "\n  ")
                file.write(json.dumps(row))
            file.write("\n ]\n}\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def render_text(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that the program prints."""
    for title in record["more_judges"]:
        credit = record["more_judges"][title]
        if "notice" in credit:
            notice = f"{credit['notice']}, licence {credit['licence']}"
            yield f"judge {title}: {notice}"
    yield f"{record['num_mixtures']} mixtures of {record['dataset']}, {record['split']}"
    yield from system_table(record)
    for metric, title in record["judges"].items():
        yield f"{metric}: {title}"
    for folder, lack in record.get("estimates", {}).items():
        if lack["num_missing"]:
            names = ", ".join(lack["missing"][:NAMED])
            more = ", ..." if lack["num_missing"] > NAMED else ""
            yield f"{folder}: {lack['num_missing']} estimates missing: {names}{more}"
        for kind, pair in lack.get("model_minus_these", {}).items():
            yield f"\n{record['checkpoint']} ({kind}) minus {folder}"
            yield from difference_table({kind: pair})
    yield f"\n{record['checkpoint'] or 'no model'}, means and 95 % bootstrap intervals"
    yield from interval_table(record["evaluation"])
    if "paired" in record:
        yield f"\n{record['checkpoint']} minus {record['compare']}, mixture by mixture"
        yield from difference_table(record["paired"])


def metrics_of(scores: Mapping[str, Any]) -> list[str]:
    """Return the metrics that have a place in tables, in order."""
    more = sorted(n for n in scores if n.startswith(("judge_", "clap_")))
    wanted = dict.fromkeys((*METRICS, *more))
    return [name for name in wanted if scores.get(name) is not None]


def metrics_of_all(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the metrics of a wide table's rows."""
    found = dict.fromkeys(m for row in rows for m in metrics_of(row))
    return [name for name in found if not name.endswith(BESIDE)]


def system_table(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield means of all systems, the mixture first, a line for each kind."""
    rows = record["table"]
    metrics = metrics_of_all(rows)
    width = max(len(row["title"]) for row in rows)
    head = "  ".join(f"{COLUMNS.get(m, m):>10}" for m in metrics)
    yield f"{'':{width}}  {'query':9} {head}"
    for row in rows:
        cells = "  ".join(
            f"{'-':>10}" if row.get(m) is None else f"{round(row[m], 3) + 0.0:10.3f}"
            for m in metrics
        )
        kind = "-" if row["kind"] == "none" else row["kind"]
        yield f"{row['title']:{width}}  {kind:9} {cells}"


def interval_table(by_kind: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each kind and metric: mean and interval."""
    for kind, scores in by_kind.items():
        for metric in metrics_of(scores):
            low, high = scores["ci95"][metric]
            yield f"{kind:9} {metric:27} {scores[metric]:8.3f}  {low:8.3f} {high:8.3f}"


def difference_table(by_kind: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each kind and metric: mean difference, interval, p."""
    for kind, pairs in by_kind.items():
        for metric in metrics_of(pairs):
            pair = pairs[metric]
            low, high = pair["ci95"]
            yield (
                f"{kind:9} {metric:27} {pair['mean']:8.3f}  {low:8.3f} {high:8.3f}"
                f"  Wilcoxon p {pair['wilcoxon_p']:.2g}"
            )
