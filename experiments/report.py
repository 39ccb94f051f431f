"""Write a run's ``report.html``: one file, nothing fetched, for screen and phone."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from experiments.figures import Rows
from experiments.report_media import charts, example_card
from experiments.report_tables import (
    MODELS,
    QUERIES,
    Summary,
    comparisons,
    duration,
    headline,
    interval,
    number,
    paired_table,
    results_table,
    stage_table,
)

CSS = Path(__file__).with_name("report.css")
SPLITS = {
    "train": "for training",
    "validation": "for validation",
    "seen": "from known sources for testing",
    "unseen": "that no stage saw for testing",
    "test": "for testing",
}

ABOVE = "above zero"
BELOW = "below zero, as when a reward is exploited,"
OPEN = "not distinguishable from zero"


def write_report(
    run_dir: Path,
    summary: Summary,
    curves: Mapping[str, Rows],
    examples: Sequence[Mapping[str, Any]],
) -> Path:
    """Write ``report.html`` into a run's folder.

    Args:
      run_dir: where to; created if missing.
      summary: what ``summary.json`` holds; ``paired`` may hold comparisons, see
        `experiments.report_tables.comparisons`.
      curves: rows of metrics by run: ``supervised``, ``continued``, ``rl``. What is
        missing is left out of the page.
      examples: each with ``title``, ``query``, ``rate`` (Hz), ``mixture`` and
        ``target`` [T], ``estimates`` (query kind to [T]), ``mask`` [H, W] and
        ``grid_hz`` [H].

    Returns:
      The path of the report, complete or not there.
    """
    sections = (
        _header(summary),
        section("What was trained", *_training(summary)),
        section("Results", *_results(summary)),
        section("Reinforced against continued", *_paired(summary)),
        section("Curves", charts(curves)),
        section("Listen", *_examples(examples)),
        section("Data and versions", *_facts(summary)),
    )
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "report.html"
    write_page(path, "Sound separation, reinforced", sections)
    return path


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Write a page of sections, whole or not at all."""
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS.read_text()}</style>"
        f"</head><body>{''.join(sections)}</body></html>\n"
    )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def section(title: str, *parts: str) -> str:
    """Return a section; nothing where it has no parts."""
    body = "".join(parts)
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _header(summary: Summary) -> str:
    reduced = (
        '<p class="notice">This run used the reduced data set: no pictures, and no '
        "recordings that were never heard in training.</p>"
        if summary.get("dataset", {}).get("reduced")
        else ""
    )
    return (
        "<header><h1>Sound separation, reinforced</h1>"
        '<p class="lead">A separator that takes the sound you describe, by words, a '
        "clip or a picture, out of a mixture. It learned from mixtures first, and then "
        f"from an encoder that listened to what it made.</p>{reduced}"
        f"{headline(summary)}</header>"
    )


def _training(summary: Summary) -> Iterator[str]:
    data = summary.get("dataset", {})
    if data:
        yield f"<p>{_data_sentence(data)}</p>"
    if "wall_s" in summary:
        yield (
            f"<p>All stages took {duration(float(summary['wall_s']))}. The model "
            "“continued” is the supervised base given as much more time as the "
            "reinforced one, so that the two can be compared fairly.</p>"
        )
    if summary.get("stages"):
        yield stage_table(summary["stages"])


def _counts(summary: Summary) -> Summary:
    return summary.get("dataset", {}).get("counts", {})


def _data_sentence(data: Summary) -> str:
    counts = data.get("counts", {})
    name = escape(str(data.get("dataset", data.get("name", "the data set"))))
    classes = data.get("num_classes", len(data.get("class_names", ())))
    parts = [f"{classes} classes of sound"] if classes else []
    parts += [
        f"{counts[split]:,} clips {what}".replace(",", "&#8239;")
        for split, what in SPLITS.items()
        if isinstance(counts.get(split), int)
    ]
    if isinstance(counts.get("pictures"), int):
        parts.append(f"{counts['pictures']:,} pictures".replace(",", "&#8239;"))
    rate = data.get("sample_rate_hz")
    kind = f" The audio has {rate / 1000:g} kHz." if rate else ""
    listed = ", ".join(parts) or "see below"
    return f"The data set is <b>{name}</b>: {listed}.{kind}"


def _results(summary: Summary) -> Iterator[str]:
    evaluation = summary.get("evaluation", {})
    if not evaluation:
        return
    unseen = " that no stage saw" if "unseen" in _counts(summary) else ""
    yield (
        f"<p>Test mixtures of recordings{unseen}, with the query as words, a clip, a "
        "picture, or all of them together. SI-SDRi is what separation gained "
        "over the mixture; the judge is a classifier that no training stage used. "
        "Higher is better everywhere. The small numbers are 95 % bootstrap intervals "
        "over the mixtures.</p>"
    )
    yield results_table(evaluation)
    absent = {m: evaluation.get(m, {}).get("absent_db") for m in MODELS}
    said = ", ".join(
        f"{MODELS[m].lower()} {number(v, 1)} dB"
        for m, v in absent.items()
        if isinstance(v, (int, float))
    )
    if said:
        yield (
            '<p class="quiet">Energy left by a query for a class that is not in the '
            f"mixture, against the right query: {said}.</p>"
        )


def _paired(summary: Summary) -> Iterator[str]:
    for first, second, by_kind in comparisons(summary):
        yield f"<p>{_verdict(first, second, by_kind)}</p>"
        for metric in ("judge", "si_sdri_db"):
            yield paired_table(by_kind, metric, first)


def _verdict(first: str, second: str, by_kind: Summary) -> str:
    """Say in words what the judge's intervals allow to say, and no more."""
    found: dict[str, list[str]] = {}
    for kind, metrics in by_kind.items():
        ends = interval(metrics.get("judge", {}), "judge")
        if ends:
            text = ABOVE if ends[0] > 0 else BELOW if ends[1] < 0 else OPEN
            found.setdefault(text, []).append(str(QUERIES.get(kind, kind)).lower())
    said = [f"{text} for {_listed(kinds)}" for text, kinds in found.items()]
    models = f"{MODELS[first]} minus {MODELS[second].lower()}"
    judged = f" The judge’s difference is {'; '.join(said)}." if said else ""
    return f"{models}, mixture by mixture.{judged}"


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _examples(examples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if examples:
        yield (
            "<p>Levels are drawn from 60 dB below the mixture’s loudest point (dark) "
            "to that point (light); masks from 0 (dark) to 1 (light). The mask and the "
            "estimate shown are those of the query in words. Players of one example "
            "share one gain.</p>"
        )
    yield from map(example_card, examples)


def _facts(summary: Summary) -> Iterator[str]:
    data = summary.get("dataset", {})
    facts = {
        f"{kind.capitalize()}: {key}": value
        for kind in ("licences", "versions")
        for key, value in {**data.get(kind, {}), **summary.get(kind, {})}.items()
    }
    for key in ("git_revision", "machine"):
        if key in summary:
            facts[key.replace("_", " ").capitalize()] = summary[key]
    rows = "".join(
        f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items()
    )
    if rows:
        yield f'<dl class="facts">{rows}</dl>'
