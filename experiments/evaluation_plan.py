"""From the flags of an evaluation to what is scored, by whom, and where rows go."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from experiments import clap_judge, compiled, judges, scoring, systems
from experiments.hashing import hash_tree
from experiments.score_batches import Work
from experiments.score_rows import Run, hash_of
from marssep_jax._version import __version__
from marssep_jax.bundle import ModelBundle
from marssep_jax.config import MASKS
from marssep_jax.evaluation import ALL_KINDS, Scorer, class_scorer


class Plan(NamedTuple):
    """An evaluation, ready to run.

    Attributes:
      work: what is to be scored.
      run: what its rows belong to.
      judges: who is behind each judge's metrics, in words.
      more_judges: whose weights judges other than the model's own have.
      judge: `experiments.judges.OWN` where the model's own judge listens.
      notices: what a reader should know before the numbers.
    """

    work: Work
    run: Run
    judges: dict[str, str]
    more_judges: dict[str, dict[str, Any]]
    judge: str | None
    notices: list[str]

    @property
    def names(self) -> list[str]:
        """Return the manifest's mixtures."""
        return [entry["id"] for entry in self.work.mixtures]


class _Panel(NamedTuple):
    scorers: list[Scorer]
    titles: dict[str, str]
    credits: dict[str, dict[str, Any]]
    described: list[Any]
    notices: list[str]


def make_plan(
    *,
    checkpoint: str | None,
    manifest: str,
    kinds: Sequence[str],
    judge_names: Sequence[str],
    compare: str | None = None,
    baselines: Sequence[str] = (),
    estimates: Sequence[str] = (),
    mask: str = MASKS[0],
) -> Plan:
    """Open everything that the flags name.

    The mixture itself is always the first system.

    Raises:
      ValueError, OSError, ImportError: naming the flag that is wrong.
    """
    if not kinds or set(kinds) - set(ALL_KINDS):
        known = ", ".join(ALL_KINDS)
        raise ValueError(f"queries is {','.join(kinds)!r}, expected some of {known}")
    others, clap = clap_judge.split_names(judge_names)
    asked = () if clap and not others else judges.check_names(others)
    if checkpoint is None and not estimates:
        raise ValueError("checkpoint is missing, expected it or estimates")
    if checkpoint is None and compare is not None:
        raise ValueError(f"compare is {compare!r}, expected a checkpoint beside it")
    bundle = scoring.load_model(checkpoint) if checkpoint else None
    other = scoring.load_model(compare, "compare") if compare else None
    tests = scoring.open_manifest(manifest)
    if not tests.manifest["mixtures"]:
        raise ValueError(f"manifest is {manifest!r}, expected mixtures in it")
    wanted = dict.fromkeys(("mixture", *baselines))
    found = [systems.baseline(name) for name in wanted]
    # Before the models, whose data take longer to embed than a wrong path to notice.
    folders = [systems.folder_of_wavs(path, tests) for path in dict.fromkeys(estimates)]
    for name, title, one in (
        (systems.MODEL, checkpoint, bundle),
        (systems.OTHER, compare, other),
    ):
        if one is not None:
            found.append(systems.model(name, str(title), one, tests, kinds, mask))
    found += folders
    own = bundle if judges.OWN in others else None
    panel = _make_panel(tests, own, str(checkpoint), asked, clap)
    work = Work(tests, found, panel.scorers)
    return Plan(
        work,
        _run_of(work, panel),
        panel.titles,
        panel.credits,
        judges.OWN if "judge" in panel.titles else None,
        panel.notices,
    )


def _make_panel(
    tests: scoring.TestSet,
    own: ModelBundle | None,
    checkpoint: str,
    asked: Sequence[str],
    clap: str | None,
) -> _Panel:
    """Seat the judges: the model's own, those that others trained, CLAP."""
    panel = _Panel([], {}, {}, [], [])
    catalogue = tests.data.catalogue
    judge = None if own is None else compiled.bundle_judge(own)
    if own is not None and judge is not None:
        if tuple(own.config.get("class_names", ())) == tuple(catalogue.class_names):
            panel.scorers.append(class_scorer("judge", judge))
            panel.titles["judge"] = f"held-out classifier of {checkpoint}"
            config = json.dumps(own.config["judge"], sort_keys=True)
            panel.described.append(hash_tree(config, own.judge_params))
        else:
            panel.notices.append(
                f"judge own is left out: it does not know the classes of "
                f"{catalogue.dataset!r}"
            )
    for name, fn in judges.fit_judges(asked, *tests.data).items():
        panel.scorers.append(class_scorer(f"judge_{name}", fn))
        panel.credits[name] = judges.credit(name)
        panel.titles[f"judge_{name}"] = (
            f"{name}, {panel.credits[name]['notice']}, licence "
            f"{panel.credits[name]['licence']}"
        )
    if clap is not None:
        ears = clap_judge.open_clap(clap, catalogue.sample_rate_hz)
        panel.scorers.append(ears.score)
        panel.credits["clap"] = {k: v for k, v in ears.credit.items() if k != "layout"}
        for name, against in (("clap_text", "the words"), ("clap_audio", "the target")):
            panel.titles[name] = f"CLAP {ears.credit['name']}, 100 cos with {against}"
        panel.described.append(ears.credit)
    panel.described.append(panel.credits)
    return panel


def _run_of(work: Work, panel: _Panel) -> Run:
    """Hash what rows depend on.

    Versions are part of it: hosts that share the work, or a run that goes on, would
    otherwise mix numbers of different programs.
    """
    manifest = work.tests.manifest
    return Run(
        checkpoint=hash_of([[s.name, s.described] for s in work.systems]),
        manifest=hash_of(manifest),
        settings=hash_of(
            [[s.name, *s.kinds] for s in work.systems],
            panel.titles,
            panel.described,
            work.batch_size,
            [__version__, jax.__version__],
        ),
    )
