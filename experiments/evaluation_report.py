"""A page about one evaluation: table, differences, classes, judge, sounds."""

import math
import pathlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import numpy as np

from experiments import scoring
from experiments.evaluation_charts import (
    MAX_BARS,
    class_bars,
    class_scores,
    rank_correlation,
    scatter,
)
from experiments.evaluation_plan import Plan
from experiments.evaluation_record import COLUMNS, metrics_of_all
from experiments.report import section, write_page
from experiments.report_media import example_card
from experiments.report_tables import QUERIES, html_table, interval, number, span
from experiments.score_rows import Scored
from experiments.systems import MODEL, UNASKED
from marssep_jax.config import FrontendConfig, from_dict
from marssep_jax.features import grid_hz

NUM_EXAMPLES = 2
"""Targets heard at each end."""

COLOURS = {MODEL: "rl", "compare": "continued"}
Record = Mapping[str, Any]


def write_evaluation_report(
    path: pathlib.Path, plan: Plan, record: Record, found: Mapping[str, Scored]
) -> None:
    """Write a page that fetches nothing.

    Args:
      path: the file.
      plan: what was scored.
      record: of `experiments.evaluation_record.make_record`.
      found: scores by system.
    """
    shown = MODEL if MODEL in found else plan.work.systems[-1].name
    evaluation = found[shown].evaluation
    kind = next(iter(evaluation.scores))
    title = {s.name: s.title for s in plan.work.systems}[shown]
    asked = "" if kind == UNASKED else f", asked by {_kind(kind).lower()}"
    sections = (
        _header(record),
        section("All systems", *_table(record)),
        section("Paired differences", *_differences(record)),
        section("Classes", *_classes(plan, evaluation, kind, f"{title}{asked}")),
        section("Ratio and judge", *_judged(record, evaluation, kind)),
        section("Best and worst", *_examples(plan, record, found)),
        section("How it was made", _facts(record)),
    )
    write_page(path, f"Evaluation: {title}", sections)


def _kind(kind: str) -> str:
    return "–" if kind == UNASKED else QUERIES.get(kind, kind)


def _header(record: Record) -> str:
    notes = "".join(
        f"<li><b>{escape(COLUMNS.get(metric, metric))}</b>: {escape(title)}</li>"
        for metric, title in record["judges"].items()
    )
    judges = f"<p>Judges:</p><ul>{notes}</ul>" if notes else "<p>No judge listened.</p>"
    return (
        "<header><h1>Evaluation</h1>"
        f'<p class="lead">{record["num_mixtures"]} mixtures of '
        f"{escape(record['dataset'])}, split {escape(record['split'])}.</p>"
        f"{judges}</header>"
    )


def _table(record: Record) -> Iterator[str]:
    yield (
        "<p>The mixture itself comes first: where separation begins. Ideal masks know "
        "the targets: where masking by magnitude ends. Ratios in dB; small numbers are "
        "95 % bootstrap intervals over mixtures.</p>"
    )
    rows = record["table"]
    shown = metrics_of_all(rows)
    head = "".join(f"<th>{escape(COLUMNS.get(m, m))}</th>" for m in shown)
    body = "".join(
        f'<tr class="last">{_system(row)}{"".join(_cells(row, shown))}</tr>'
        for row in rows
    )
    yield html_table("results", f"<th>System</th>{head}", body)
    for folder, lack in record.get("estimates", {}).items():
        if lack["num_missing"]:
            yield (
                f'<p class="notice">{escape(folder)}: {lack["num_missing"]} estimates '
                f"are missing, {escape(lack['missing'][0])} among them.</p>"
            )


def _system(row: Record) -> str:
    colour = COLOURS.get(row["system"], "supervised")
    asked = "" if row["kind"] == UNASKED else _kind(row["kind"])
    return (
        f'<th scope="row"><span class="key" style="--c:var(--{colour})">'
        f'{escape(row["title"])}</span><span class="range">{escape(asked)}</span></th>'
    )


def _cells(row: Record, metrics: list[str]) -> Iterator[str]:
    for metric in metrics:
        decimals = 2 if metric.endswith("_db") else 3
        ends = interval(row, metric)
        under = f'<span class="range">{span(ends, decimals)}</span>' if ends else ""
        value = number(row.get(metric), decimals)
        yield f'<td class="number">{value}{under}</td>'


def _differences(record: Record) -> Iterator[str]:
    pairs = {}
    if "paired" in record:
        pairs[f"{record['checkpoint']} minus {record['compare']}"] = record["paired"]
    for folder, lack in record.get("estimates", {}).items():
        if "model_minus_these" in lack:
            pairs[f"{record['checkpoint']} minus {folder}"] = lack["model_minus_these"]
    if pairs:
        yield (
            "<p>Mixture by mixture: mean difference, its paired bootstrap interval, "
            "and Wilcoxon’s two-sided p, not corrected for the number of tests.</p>"
        )
    head = (
        "<th>Query and metric</th><th>Difference</th><th>95 % interval</th><th>p</th>"
    )
    for title, by_kind in pairs.items():
        body = "".join(
            f'<tr><th scope="row">{escape(_kind(kind))}: '
            f"{escape(COLUMNS.get(metric, metric))}</th>"
            f'<td class="number">{number(pair["mean"], 3, True)}</td>'
            f'<td class="number">{span(tuple(pair["ci95"]), 3, True)}</td>'
            f'<td class="number">{pair["wilcoxon_p"]:.2g}</td></tr>'
            for kind, metrics in by_kind.items()
            for metric, pair in ((m, metrics[m]) for m in metrics_of_all([metrics]))
        )
        yield f"<h3>{escape(title)}</h3>{html_table('differences', head, body)}"


def _classes(plan: Plan, evaluation: Any, kind: str, title: str) -> Iterator[str]:
    names = plan.work.tests.data.catalogue.class_names
    score = evaluation.scores[kind]["si_sdri_db"]
    scores = class_scores(score, evaluation.label, names)
    drawn = class_bars(scores, "SI-SDRi, dB")
    if drawn:
        some = f"; the {MAX_BARS} at the ends" if len(scores) > MAX_BARS else ""
        yield (
            f"<p>{escape(title)}: mean over a class’s targets, whose number stands in "
            f"brackets, with 95 % intervals{some}.</p>{_wide(drawn)}"
        )


def _wide(drawn: str) -> str:
    return f'<div class="scroll"><figure class="wide">{drawn}</figure></div>'


def _judged(record: Record, evaluation: Any, kind: str) -> Iterator[str]:
    scores = evaluation.scores[kind]
    for metric, title in record["judges"].items():
        if metric not in scores:
            continue
        x, y = scores["si_sdr_db"].ravel(), scores[metric].ravel()
        name = COLUMNS.get(metric, metric)
        drawn = scatter(x, y, "SI-SDR, dB", name)
        if drawn:
            rank = rank_correlation(x, y)
            said = f"{rank:.2f}".replace("-", "−") if math.isfinite(rank) else "–"
            yield (
                f"<p>{escape(title)}. Rank correlation over targets: {said}.</p>"
                f"{_wide(drawn)}"
            )


def _examples(plan: Plan, record: Record, found: Mapping[str, Scored]) -> Iterator[str]:
    """Separate the ends of the order by SI-SDRi once more, to be seen and heard."""
    if MODEL not in found:
        return
    evaluation = found[MODEL].evaluation
    kinds = list(evaluation.scores)
    score = evaluation.scores[kinds[0]]["si_sdri_db"]
    places = np.argwhere(np.isfinite(score))
    order = places[np.argsort([score[tuple(place)] for place in places])]
    count = min(NUM_EXAMPLES, len(order) // 2)
    picked = [*order[::-1][:count], *order[:count]] if count else list(order)
    tests, bundle = plan.work.tests, scoring.load_model(record["checkpoint"])
    entries = [plan.work.mixtures[row] for row, _ in picked]
    manifest = {**tests.manifest, "mixtures": entries}
    mixtures = scoring.model_mixtures(bundle, tests._replace(manifest=manifest))
    captions = scoring.captions_of(manifest, tests.data.catalogue)
    config = from_dict(FrontendConfig, bundle.config["frontend"])
    yield (
        "<p>Levels are drawn from 60 dB below the mixture’s loudest point (dark) to "
        "that point (light); masks from 0 to 1. Mask and picture of the estimate are "
        "those of the first kind of query. Players of one example share one gain.</p>"
    )
    for (row, target), mixture in zip(picked, mixtures, strict=True):
        caption = captions[mixture.name][target]
        made = scoring.make_example(bundle, mixture, target, kinds, caption)
        value = number(float(score[row, target]), 2, True)
        yield example_card(
            {
                "title": f"{mixture.name}, source {target}: SI-SDRi {value} dB",
                "query": caption,
                "rate": config.sample_rate_hz,
                "mixture": made.mixture,
                "target": made.target,
                "estimates": made.estimates,
                "mask": made.mask,
                "grid_hz": grid_hz(config),
            }
        )


def _facts(record: Record) -> str:
    facts = {
        "Checkpoint": record["checkpoint"] or "none",
        "Manifest": record["manifest"],
        "Run": record["run"],
        **{f"Version: {k}": v for k, v in record["versions"].items()},
    }
    rows = "".join(
        f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items()
    )
    return f'<dl class="facts">{rows}</dl>'
