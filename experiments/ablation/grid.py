"""What a grid file says: the stages of one run, what is varied, over which seeds.

A grid file has ``get_grid(scale="full")``, which returns a `Grid`. An override's
key is a dotted name of the config, ``rl.clip_eps``; it reaches every stage that the
section concerns. ``base,rl:training.num_steps`` names the stages instead. The
section ``test`` is that of `experiments.ablation.scores.TestConfig`.
"""

import dataclasses
import fnmatch
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.config_files import load_function
from marssep_jax.checks import at_least, one_of, require

PROGRAMS = ("align", "train", "evaluate")
ROLES = {
    "align": (),
    "train": ("encoder", "separator", "query_encoder"),
    "evaluate": ("model", "judge"),
}
"""What each program may start from."""

Overrides = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One program of a run.

    Attributes:
      name: what other stages, overrides and metrics call it.
      program: "align", "train" or "evaluate".
      config: a config file.
      argument: what its ``get_config`` is given.
      overrides: settings of every variant.
      start: what it starts from, by role (`ROLES`): the name of a stage before it,
        or a folder, in which ``{seed}`` stands for the seed.
      per_seed: False runs it once for all seeds, as the config has it.
      shared_by: how many seeds in a row start from one run of it.
    """

    name: str
    program: str
    config: str
    argument: str = ""
    overrides: Overrides = field(default_factory=dict)
    start: Mapping[str, str] = field(default_factory=dict)
    per_seed: bool = True
    shared_by: int = 1

    def __post_init__(self) -> None:
        """Check program and roles."""
        one_of(self, "program", PROGRAMS)
        at_least(self, 1, "shared_by")
        roles = ROLES[self.program]
        for role in self.start:
            expected = f"one of {', '.join(roles) or 'nothing'} for {self.program}"
            require(role in roles, f"start of stage {self.name}", role, expected)
        if self.program == "evaluate":
            missing = f"start of stage {self.name}", dict(self.start), "a model in it"
            require("model" in self.start, *missing)


@dataclass(frozen=True)
class Variant:
    """A row of the table; ``reference`` is what it is compared with, if not the grid's.

    A key of `overrides` is described at the top of this module.
    """

    name: str
    overrides: Overrides = field(default_factory=dict)
    reference: str = ""


@dataclass(frozen=True)
class Metric:
    """A column of the table: ``key`` of what a stage measured.

    For "evaluate" keys are ``text/si_sdri_db`` and the like, for the others those
    of ``metrics.jsonl`` (the last value) and ``steps``, ``train_s``, ``s_per_step``.
    Every stage has ``wall_s`` and ``peak_mb``, those of its process so far.
    """

    label: str
    stage: str
    key: str
    decimals: int = 2


@dataclass(frozen=True)
class Curve:
    """A panel of curves: ``key`` of the rows that a training stage wrote on its way.

    Attributes:
      label: what the panel is called.
      stage: a stage of the program "train".
      key: of its ``metrics.jsonl``.
      collapse: a run has collapsed if it ends further below its first value than
        this; 0 asks for no such count.
    """

    label: str
    stage: str
    key: str
    collapse: float = 0.0


@dataclass(frozen=True)
class Grid:
    """Everything that one table and one plot need.

    Attributes:
      title: heading of the table.
      stages: of one run, in an order in which they can be run.
      variants: the rows.
      reference: the variant that others are compared with, seed by seed.
      seeds: multiples of `experiments.ablation.plan.SEED_STRIDE` are added to the
        config's own seed.
      metrics: the columns.
      plot: labels of the metrics that are drawn; empty draws all.
      curves: what is drawn against samples and seconds; empty draws nothing.
    """

    title: str
    stages: tuple[Stage, ...]
    variants: tuple[Variant, ...]
    reference: str
    metrics: tuple[Metric, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    plot: tuple[str, ...] = ()
    curves: tuple[Curve, ...] = ()

    def __post_init__(self) -> None:
        """Check that names are unique and refer to something."""
        stages = _unique("stages", [stage.name for stage in self.stages])
        variants = _unique("variants", [variant.name for variant in self.variants])
        labels = _unique("metrics", [metric.label for metric in self.metrics])
        _unique("seeds", self.seeds)
        _among("reference", [self.reference], variants)
        _among("stage of a metric", [metric.stage for metric in self.metrics], stages)
        _among("plot", self.plot, labels)
        trained = [stage.name for stage in self.stages if stage.program == "train"]
        _among("stage of a curve", [curve.stage for curve in self.curves], trained)
        for variant in self.variants:
            _among("reference", [variant.reference or self.reference], variants)
            for key in variant.overrides:
                _among(f"stages of override {key!r}", split_key(key)[0], stages)


def _unique(name: str, values: Sequence[Any]) -> list[Any]:
    found = list(values)
    twice = [value for value in found if found.count(value) > 1]
    require(bool(found) and not twice, name, twice or found, "one or more, each once")
    return found


def _among(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    for value in values:
        require(value in known, name, value, f"one of {', '.join(known)}")


def split_key(key: str) -> tuple[tuple[str, ...], str]:
    """Split ``a,b:section.name`` into the stages it names and the setting."""
    stages, colon, name = key.rpartition(":")
    return (tuple(stages.split(",")) if colon else ()), name


def product(axes: Mapping[str, Sequence[Any]]) -> tuple[Variant, ...]:
    """Return every combination of the axes' values, the last axis fastest.

    Args:
      axes: values by override key.
    """
    return tuple(
        _named(dict(zip(axes, values, strict=True)))
        for values in itertools.product(*axes.values())
    )


def around(
    axes: Mapping[str, Sequence[Any]],
    *,
    reference: str = "",
    fixed: Overrides | None = None,
) -> tuple[Variant, ...]:
    """Return variants that change one setting each.

    Args:
      axes: values by override key.
      reference: see `Variant`.
      fixed: what all of them change besides.
    """
    found = []
    for key, values in axes.items():
        for value in values:
            named = _named({key: value})
            overrides = {**(fixed or {}), **named.overrides}
            found.append(Variant(named.name, overrides, reference))
    return tuple(found)


def _named(overrides: Overrides) -> Variant:
    name = " ".join(
        f"{split_key(key)[1].rpartition('.')[2]}={_shown(value)}"
        for key, value in overrides.items()
    )
    return Variant(name, overrides)


def _shown(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def load_grid(spec: str) -> Grid:
    """Load ``FILE`` or ``FILE:SCALE``.

    Raises:
      ValueError: no such file, one that does not run, or no grid in it.
    """
    path, *scale = spec.split(":", 1)
    return load_function(path, "grid", "get_grid(scale)", Grid)(*scale)


def select(grid: Grid, patterns: Sequence[str], seeds: Sequence[str] = ()) -> Grid:
    """Keep the variants whose names match a pattern, and those they refer to.

    Args:
      grid: the grid.
      patterns: of names; none keeps all variants.
      seeds: those of the grid's to keep; none keeps all.

    Raises:
      ValueError: a pattern that matches none, or a seed that the grid does not have.
    """
    if seeds:
        _among("--seeds", seeds, [str(seed) for seed in grid.seeds])
        some = tuple(seed for seed in grid.seeds if str(seed) in seeds)
        grid = dataclasses.replace(grid, seeds=some)
    names = [variant.name for variant in grid.variants]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            known = ", ".join(names)
            raise ValueError(f"--variants has {pattern!r}, expected one of {known}")
    if not patterns:
        return grid
    chosen = [
        variant
        for variant in grid.variants
        if any(fnmatch.fnmatchcase(variant.name, pattern) for pattern in patterns)
    ]
    kept = {grid.reference}
    for variant in chosen:
        kept |= {variant.name, variant.reference}
    variants = tuple(variant for variant in grid.variants if variant.name in kept)
    return dataclasses.replace(grid, variants=variants)
