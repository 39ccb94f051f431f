"""What a whole run ends with: scores, examples, report, the model itself."""

import pathlib
from typing import Any

import numpy as np

from data_pipelines.catalogue import Catalogue
from experiments import compiled, scoring
from experiments.figures import save_example_figure
from experiments.ledger import Chain, Ledger
from experiments.progress import progress_of
from experiments.provenance import machine, revision, versions
from experiments.report import write_report
from marssep_jax.audio import write_audio
from marssep_jax.bundle import ModelBundle, save_bundle
from marssep_jax.checkpoint.workdir import write_json
from marssep_jax.config import FrontendConfig, from_dict
from marssep_jax.evaluation import (
    Evaluation,
    EvaluationMixture,
    compare,
    per_mixture,
    summarise,
)
from marssep_jax.features import grid_hz
from marssep_jax.metric_log import MetricLog

MODELS = ("supervised", "continued", "rl")
EXAMPLE_RANKS = (0.9, 0.6, 0.3)
"""Examples are the mixtures at these shares of the order by SI-SDRi: a good one, a
usual one, a poor one."""


def write_outcome(chain: Chain, ledger: Ledger) -> None:
    """Evaluate the three models and write everything a user looks at."""
    models = {name: scoring.load_model(chain.stage_dir(name)) for name in MODELS}
    final = models["rl"]
    tests = _tests(chain)
    mixtures = scoring.model_mixtures(final, tests)
    kinds = scoring.asked_kinds(mixtures)
    judge = compiled.bundle_judge(final)
    found, ratios = {}, chain.settings["rl"].data.num_ratios
    for name, bundle in models.items():
        progress = progress_of(f"evaluate {name}", len(mixtures))
        found[name] = scoring.evaluate_model(
            bundle, mixtures, judge, kinds=kinds, bss=ratios, on_batch=progress
        )
    examples = _examples(chain, final, found["rl"], mixtures, tests)
    _write_sounds(chain.folder / "wav", examples)
    save_example_figure(examples[0], chain.folder / "figure.png")
    save_bundle(chain.folder / "checkpoint", final)
    ledger.close("evaluate", [{"name": "evaluate", "wall_s": 1.0, "metrics": {}}])
    summary = _summary(chain, ledger, tests, found)
    write_json(chain.folder / "summary.json", summary)
    curves = {
        name: MetricLog(chain.stage_dir(name), name, tensorboard=False).rows()
        for name in MODELS
    }
    write_report(chain.folder, summary, curves, examples)


def _tests(chain: Chain) -> scoring.TestSet:
    settings = chain.settings["supervised"]
    length = settings.frontend.num_samples
    return scoring.draw_tests(chain.data, settings.data.num_test, num_samples=length)


def _summary(
    chain: Chain,
    ledger: Ledger,
    tests: scoring.TestSet,
    found: dict[str, Evaluation],
) -> dict[str, Any]:
    evaluation: dict[str, Any] = {name: summarise(e) for name, e in found.items()}
    for scores in evaluation.values():
        if "absent_db" in scores.get("text", {}):
            scores["absent_db"] = scores["text"]["absent_db"]
    stages = ledger.stages()
    return {
        "wall_s": round(sum(stage["wall_s"] for stage in stages), 1),
        "machine": machine(),
        "git_revision": revision() or "unknown",
        "versions": versions(),
        "dataset": describe_data(chain.data.catalogue),
        "stages": stages,
        "split": tests.manifest["split"],
        "num_mixtures": len(tests.manifest["mixtures"]),
        "judge": "own",
        "evaluation": evaluation,
        "paired": {
            f"rl_vs_{other}": compare(found["rl"], found[other])
            for other in ("continued", "supervised")
        },
    }


def describe_data(catalogue: Catalogue) -> dict[str, Any]:
    """Return what a summary says of a data set."""
    described = catalogue.description
    return {
        "dataset": catalogue.dataset,
        "num_classes": len(catalogue.class_names),
        "class_names": list(catalogue.class_names),
        "sample_rate_hz": catalogue.sample_rate_hz,
        **{
            key: described[key]
            for key in ("version", "reduced", "counts", "licences")
            if key in described
        },
    }


def _examples(
    chain: Chain,
    bundle: ModelBundle,
    evaluation: Evaluation,
    mixtures: list[EvaluationMixture],
    tests: scoring.TestSet,
) -> list[dict[str, Any]]:
    """Separate a few mixtures for the report, in the layout it takes."""
    names = chain.data.catalogue.class_names
    captions = scoring.captions_of(tests.manifest, chain.data.catalogue)
    config = from_dict(FrontendConfig, bundle.config["frontend"])
    score = per_mixture(evaluation.scores["text"]["si_sdri_db"])
    # Examples show every kind of query that any mixture can be asked by.
    askable = [
        all(np.any(rows, axis=-1).all() for rows in m.queries.values())
        for m in mixtures
    ]
    usable = np.isfinite(score) & (askable if any(askable) else True)
    order = np.flatnonzero(usable)[np.argsort(score[usable])]
    examples = []
    for rank in EXAMPLE_RANKS:
        row = int(order[round(rank * (len(order) - 1))])
        mixture = mixtures[row]
        made = scoring.make_example(
            bundle,
            mixture,
            0,
            [kind for kind in evaluation.scores if kind != "composed"],
            captions[mixture.name][0],
        )
        first, *rest = (names[label] for label in mixture.label)
        examples.append(
            {
                "title": f"{first.capitalize()}, out of {first} and {', '.join(rest)}",
                "query": made.caption,
                "name": f"{made.name}-{first.replace(' ', '-')}",
                "rate": config.sample_rate_hz,
                "mixture": made.mixture,
                "target": made.target,
                "estimates": made.estimates,
                "mask": made.mask,
                "grid_hz": grid_hz(config),
                "si_sdri_db": float(score[row]),
            }
        )
    return examples


def _write_sounds(folder: pathlib.Path, examples: list[dict[str, Any]]) -> None:
    for example in examples:
        place = folder / example["name"]
        place.mkdir(parents=True, exist_ok=True)
        sounds = {"mixture": example["mixture"], "target": example["target"]}
        sounds |= {f"estimate_{k}": v for k, v in example["estimates"].items()}
        for name, waveform in sounds.items():
            write_audio(place / f"{name}.wav", waveform, example["rate"])
