"""Score a trained separator on the mixtures of a manifest, with intervals.

Examples:
  python -m experiments.evaluate --checkpoint=runs/quickstart \
      --manifest=data/instruments/full/1.0.0/manifest_unseen.json --json=scores.json
  python -m experiments.evaluate --checkpoint=runs/rl --compare=runs/base \
      --manifest=data/instruments/full/1.0.0/manifest_seen.json --queries=text
  python -m experiments.evaluate --checkpoint=runs/rl --judges=own,aisfx \
      --manifest=data/instruments/full/1.0.0/manifest_unseen.json

Metrics are in dB, ``judge`` is the log-probability that a held-out classifier gives
the right class. ``judge_aisfx`` and ``judge_musicnn`` are linear probes, fitted on
training clips, of networks that others trained; ``judge_musicnn_tags`` is one such
network's own words for instruments (pip install --no-deps -r requirements-judges.txt).
Intervals are 95 % bootstrap intervals over mixtures. ``--mask`` separates by the mode
of the mask policy, by its mean or by one draw from it instead.
"""

import pathlib
from typing import Any

from absl import flags

from experiments import command


def main() -> None:
    """Score what the flags name."""
    values = flags.FLAGS
    kinds = tuple(values.queries)
    from experiments import compiled, judges, scoring
    from experiments.progress import progress_of
    from experiments.provenance import versions
    from marssep_jax.checkpoint.workdir import write_json
    from marssep_jax.cli_options import check_json
    from marssep_jax.evaluation import KINDS, compare, items, summarise

    if not kinds or set(kinds) - set(KINDS):
        known = ", ".join(KINDS)
        raise ValueError(f"queries is {','.join(kinds)!r}, expected some of {known}")
    asked = judges.check_names(values.judges)
    check_json(values.json)
    model = scoring.load_model(values.checkpoint)
    other = scoring.load_model(values.compare, "compare") if values.compare else None
    tests = scoring.open_manifest(values.manifest)
    judge = compiled.bundle_judge(model) if judges.OWN in values.judges else None
    more = judges.fit_judges(asked, *tests.data)
    found = []
    for bundle in [model] if other is None else [model, other]:
        mixtures = scoring.model_mixtures(bundle, tests)
        possible = scoring.asked_kinds(mixtures)
        wanted = tuple(kind for kind in kinds if kind in possible)
        if not wanted:
            raise ValueError(f"queries is {list(kinds)}, expected some of {possible}")
        found.append(
            scoring.evaluate_model(
                bundle,
                mixtures,
                judge,
                kinds=wanted,
                mask=values.mask,
                more_judges=more,
                on_batch=progress_of("evaluate", len(mixtures)),
            )
        )
    record: dict[str, Any] = {
        "checkpoint": values.checkpoint,
        "manifest": values.manifest,
        "dataset": tests.manifest["dataset"],
        "split": tests.manifest["split"],
        "mask": values.mask,
        "judge": judges.OWN if judge is not None else None,
        "more_judges": {name: judges.credit(name) for name in more},
        "versions": versions(),
        "evaluation": summarise(found[0]),
    }
    for name, credit in record["more_judges"].items():
        print(f"judge {name}: {credit['notice']}, licence {credit['licence']}")
    print(table(record["evaluation"]))
    if other is not None:
        record["compare"] = values.compare
        record["paired"] = compare(*found)
        print(f"\n{values.checkpoint} minus {values.compare}, mixture by mixture")
        print(table(record["paired"]))
    record["items"] = list(items(found[0]))
    if values.json:
        write_json(pathlib.Path(values.json), record)


METRICS = ("si_sdri_db", "sdr_db", "sir_db", "sar_db", "judge", "judge_accuracy")


def table(by_kind: dict[str, dict[str, Any]]) -> str:
    """Lay means and intervals out as text, a line for each kind and metric."""
    lines = []
    for kind, scores in by_kind.items():
        judged = sorted(name for name in scores if name.startswith("judge_"))
        for metric in dict.fromkeys((*METRICS, *judged)):
            entry = scores.get(metric)
            if entry is None:
                continue
            if isinstance(entry, dict):  # a paired difference
                mean, (low, high) = entry["mean"], entry["ci95"]
            else:
                mean, (low, high) = entry, scores["ci95"][metric]
            lines.append(f"{kind:9} {metric:27} {mean:8.3f}  {low:8.3f} {high:8.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    flags.DEFINE_string("checkpoint", None, "A model, or the run it is in.")
    flags.DEFINE_string("manifest", None, "Mixtures, a JSON file beside a data set.")
    flags.DEFINE_list(
        "queries", "text,audio,image,composed", "Kinds of query, with commas."
    )
    flags.DEFINE_list(
        "judges", "own", "Who judges: own, aisfx, musicnn, musicnn_tags, with commas."
    )
    flags.DEFINE_enum(
        "mask", "mode", ["mode", "mean", "sample"], "Which mask of the policy."
    )
    flags.DEFINE_string("compare", None, "Another model, for paired differences.")
    flags.DEFINE_string("json", None, "Write scores, target by target, to this file.")
    flags.mark_flags_as_required(["checkpoint", "manifest"])
    command.run(main)
