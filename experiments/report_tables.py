"""The numbers of a report: headline, stages, results, paired differences."""

import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

QUERIES = {
    "text": "Words",
    "audio": "A clip",
    "image": "A picture",
    "composed": "All together",
    "negative": "Words, minus the others’",
}
MODELS = {
    "supervised": "Supervised",
    "continued": "Supervised, continued",
    "rl": "Reinforced",
}
METRICS = {
    "si_sdri_db": ("SI-SDRi, dB", 2),
    "sdr_db": ("SDR, dB", 2),
    "sir_db": ("SIR, dB", 2),
    "sar_db": ("SAR, dB", 2),
    "judge": ("Judge", 3),
}
"""Key in summary.json to its heading and the decimals that are shown."""

STAGES = {
    "prepare": "Prepare the data",
    "align-1": "Align words and sounds",
    "align-2": "Align sounds of a class",
    "align-3": "Align pictures and sounds",
    "judge": "Train the judge",
    "supervised": "Supervised base",
    "continued": "Supervised, continued",
    "rl": "Reinforce",
    "evaluate": "Evaluate",
}
Summary = Mapping[str, Any]


def number(value: Any, decimals: int = 2, signed: bool = False) -> str:
    """Return a number with a true minus sign; an en dash where there is none."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return "–"
    value = round(value, decimals) + 0.0  # no minus before zeros
    text = f"{value:+.{decimals}f}" if signed else f"{value:.{decimals}f}"
    return text.replace("-", "−")


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest:02d} s"


def interval(scores: Summary, metric: str) -> tuple[float, float] | None:
    """Return a metric's 95 % interval: ``[low, high]`` or the same by name."""
    ends = scores.get("ci95")
    if isinstance(ends, Mapping) and metric in ends:
        ends = ends[metric]
    if isinstance(ends, Mapping):
        ends = (ends.get("low"), ends.get("high"))
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:
        return None
    low, high = (math.nan if end is None else float(end) for end in ends)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def span(ends: tuple[float, float], decimals: int, signed: bool = False) -> str:
    """Return an interval as text."""
    return " to ".join(number(end, decimals, signed) for end in ends)


def query_kinds(evaluation: Summary) -> list[str]:
    """Return the query kinds that any model was evaluated with, in order."""
    found = {
        kind
        for scores in evaluation.values()
        if isinstance(scores, Mapping)
        for kind, value in scores.items()
        if isinstance(value, Mapping) and "si_sdri_db" in value
    }
    return [k for k in QUERIES if k in found] + sorted(found - set(QUERIES))


def results_table(evaluation: Summary) -> str:
    """Return the table of every query kind and model, with 95 % intervals."""
    head = "".join(f"<th>{title}</th>" for title, _ in METRICS.values())
    body = []
    for kind in query_kinds(evaluation):
        body.append(
            f'<tr class="group"><th colspan="{1 + len(METRICS)}" scope="rowgroup">'
            f"{escape(QUERIES.get(kind, kind))}</th></tr>"
        )
        models = [m for m in MODELS if kind in evaluation.get(m, {})]
        for model in models:
            last = ' class="last"' if model == models[-1] else ""
            cells = "".join(_score_cells(evaluation[model][kind]))
            body.append(f"<tr{last}>{_model_header(model)}{cells}</tr>")
    return html_table("results", f"<th>Query and model</th>{head}", "".join(body))


def _score_cells(scores: Summary) -> Iterator[str]:
    for metric, (_, decimals) in METRICS.items():
        ends = interval(scores, metric)
        under = f'<span class="range">{span(ends, decimals)}</span>' if ends else ""
        value = number(scores.get(metric), decimals)
        yield f'<td class="number">{value}{under}</td>'


def _model_header(model: str) -> str:
    key = f'<span class="key" style="--c:var(--{model})">{MODELS[model]}</span>'
    return f'<th scope="row">{key}</th>'


def html_table(kind: str, head: str, body: str) -> str:
    """Return a table that scrolls by itself on a narrow screen."""
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def comparisons(summary: Summary) -> list[tuple[str, str, Summary]]:
    """Return the paired comparisons: better model, other model, by query kind.

    ``summary["paired"]`` maps ``A_vs_B`` to query kind to metric to
    ``{"mean": .., "ci95": [low, high]}``, the mean of A - B over the mixtures.
    """
    found = []
    for name, by_kind in summary.get("paired", {}).items():
        first, _, second = name.partition("_vs_")
        if first in MODELS and second in MODELS:
            found.append((first, second, by_kind))
    return found


def paired_table(by_kind: Summary, metric: str, model: str) -> str:
    """Return one metric's paired differences, each drawn on a common scale."""
    title, decimals = METRICS[metric]
    rows = [
        (kind, by_kind[kind][metric], interval(by_kind[kind][metric], metric))
        for kind in [*QUERIES, *sorted(set(by_kind) - set(QUERIES))]
        if metric in by_kind.get(kind, {})
    ]
    if not rows:
        return ""
    reach = max(abs(v) for _, d, ends in rows for v in (d["mean"], *(ends or ())))
    body = "".join(
        f'<tr><th scope="row">{escape(QUERIES.get(kind, kind))}</th>'
        f'<td class="number">{number(difference["mean"], decimals, True)}</td>'
        f'<td class="number">{span(ends, decimals, True) if ends else "–"}</td>'
        f'<td class="forest-cell">{_forest(difference["mean"], ends, reach, model)}'
        "</td></tr>"
        for kind, difference, ends in rows
    )
    head = (
        f"<th>{title}</th><th>Difference</th><th>95 % interval</th>"
        '<th class="axis">lower &ensp;0&ensp; higher</th>'
    )
    return html_table("paired", head, body)


def _forest(
    mean: float, ends: tuple[float, float] | None, reach: float, model: str
) -> str:
    """Draw a difference and its interval around a zero line in the middle."""
    scale = 92 / (reach or 1.0)
    low, high = (scale * end for end in (ends or (mean, mean)))
    at = scale * mean
    return (
        '<svg class="forest" viewBox="-100 -10 200 20" preserveAspectRatio="none" '
        f'aria-hidden="true" style="--c:var(--{model})">'
        '<line x1="0" x2="0" y1="-10" y2="10"/>'
        f'<line class="span" x1="{low:.2f}" x2="{high:.2f}" y1="0" y2="0"/>'
        f'<line class="mean" x1="{at:.2f}" x2="{at:.2f}" y1="0" y2="0"/></svg>'
    )


def stage_table(stages: list[Summary]) -> str:
    """Return the stages with their times and last metrics, above a time bar."""
    body, bar = [], []
    for stage in stages:
        name = str(stage.get("name", ""))
        seconds = float(stage.get("wall_s", 0.0))
        title = escape(STAGES.get(name, name))
        ends = ", ".join(_last_metrics(stage.get("metrics", {})))
        colour = f"var(--{name})" if name in MODELS else "var(--other)"
        bar.append(
            f'<i style="flex-grow:{seconds:.1f};background:{colour}" '
            f'title="{title}: {duration(seconds)}"></i>'
        )
        body.append(
            f'<tr><th scope="row"><span class="key" style="--c:{colour}">{title}</span>'
            f'</th><td class="number">{duration(seconds)}</td>'
            f'<td class="text quiet">{ends}</td></tr>'
        )
    table = html_table(
        "stages",
        '<th>Stage</th><th>Time</th><th class="text">Ended with</th>',
        "".join(body),
    )
    return f'<div class="timeline" aria-hidden="true">{"".join(bar)}</div>{table}'


def _last_metrics(metrics: Summary) -> Iterator[str]:
    for key, value in list(metrics.items())[:4]:
        if isinstance(value, (int, float)):
            name = key.rpartition("/")[2]
            unit = "&nbsp;dB" if name.endswith("_db") else ""
            name = escape(name.removesuffix("_db").replace("_", " "))
            name = name.replace("si sdri", "SI-SDRi").replace("si sdr", "SI-SDR")
            yield f"{name}&nbsp;{number(value, 2 if unit else 3)}{unit}"


def headline(summary: Summary) -> str:
    """Return the few numbers that a reader wants first."""
    evaluation = summary.get("evaluation", {})
    best = next((m for m in ("rl", "continued", "supervised") if m in evaluation), "")
    cards = []
    scores = evaluation.get(best, {}).get("text", {})
    if scores:
        ends = interval(scores, "si_sdri_db")
        note = f" ({span(ends, 2)})" if ends else ""
        cards.append(
            (
                f"{number(scores.get('si_sdri_db'), 2, True)} <small>dB</small>",
                f"SI-SDR gained by asking in words, {MODELS[best].lower()}{note}",
            )
        )
    for first, second, by_kind in comparisons(summary):
        if (first, second) == ("rl", "continued"):
            cards += _paired_cards(by_kind.get("text", {}))
    if "wall_s" in summary:
        cards.append((duration(float(summary["wall_s"])), "from nothing to this page"))
    items = "".join(f"<div><dt>{n}</dt><dd>{v}</dd></div>" for v, n in cards)
    return f'<dl class="numbers">{items}</dl>' if items else ""


def _paired_cards(metrics: Summary) -> Iterator[tuple[str, str]]:
    for metric, what, unit in (
        ("judge", "judge’s score", ""),
        ("si_sdri_db", "SI-SDR gained", "dB"),
    ):
        if metric in metrics:
            decimals = METRICS[metric][1]
            ends = interval(metrics[metric], metric)
            note = f" ({span(ends, decimals, True)})" if ends else ""
            value = number(metrics[metric]["mean"], decimals, True)
            yield (
                f"{value} <small>{unit}</small>",
                f"Reinforced minus continued: {what}, asked in words{note}",
            )
