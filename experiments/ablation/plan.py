"""Which runs a grid takes: equal settings and an equal start are run once."""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

from experiments.ablation.grid import Grid, Stage, Variant, split_key
from experiments.ablation.scores import TestConfig
from experiments.config_files import load_config_function
from experiments.listeners import SECTIONS
from experiments.settings import Settings, resolve
from marssep_jax.config import from_dict, to_dict

SEED_STRIDE = 10
"""Between the config seeds of two of a grid's seeds; stages of one run differ by 1."""

KEY_LENGTH = 10
RECORD, FAILURE, JOB, LOG = "run.json", "failed.json", "job.json", "log.txt"

_SUPERVISED = ("frontend", "separator", "encoder", "optimiser", "data", "training")
CONCERNS = {
    "align": SECTIONS,
    "supervised": (*_SUPERVISED, "start"),
    "policy": (*_SUPERVISED, "start", "policy", "rl"),
    "evaluate": ("data", "policy", "test"),
}
"""Sections that change what a stage does; what else a variant says passes it by."""


class Task(NamedTuple):
    """One run of one program.

    Attributes:
      key: its folder's name, which ends in a hash of all that it depends on.
      stage: the name in the grid; of those that share it, the first.
      program: see `Stage`.
      settings: resolved, as plain values.
      test: of `TestConfig`, as plain values, for "evaluate".
      start: folders by role.
      needs: keys of the tasks that must have ended.
    """

    key: str
    stage: str
    program: str
    settings: dict[str, Any]
    test: dict[str, Any]
    start: dict[str, str]
    needs: tuple[str, ...]


class Plan(NamedTuple):
    """Tasks by key, each after those that it needs, and who asked for them.

    ``cells`` maps (variant, seed) to the key of each stage.
    """

    tasks: dict[str, Task]
    cells: dict[tuple[str, int], dict[str, str]]


def make_plan(grid: Grid, runs: pathlib.Path, data_dir: str) -> Plan:
    """Resolve every stage of every variant and seed.

    Args:
      grid: the grid.
      runs: folder of the runs.
      data_dir: where data sets lie.

    Raises:
      ValueError: a setting that is unknown or out of range, or one that concerns no
        stage, naming the variant.
    """
    plan = Plan({}, {})
    for variant in grid.variants:
        for seed in grid.seeds:
            cell: dict[str, str] = {}
            used: set[str] = set()
            for stage in grid.stages:
                try:
                    task = _make_task(stage, variant, seed, cell, runs, data_dir, used)
                except ValueError as error:
                    raise ValueError(
                        f"variant {variant.name!r}, stage {stage.name!r}: {error}"
                    ) from error
                plan.tasks.setdefault(task.key, task)
                cell[stage.name] = task.key
            if unused := sorted(set(variant.overrides) - used):
                raise ValueError(
                    f"variant {variant.name!r} sets {unused[0]!r}, expected a setting "
                    "that concerns one of the stages"
                )
            plan.cells[variant.name, seed] = cell
    return plan


def _make_task(
    stage: Stage,
    variant: Variant,
    seed: int,
    cell: Mapping[str, str],
    runs: pathlib.Path,
    data_dir: str,
    used: set[str],
) -> Task:
    config = _load(stage.config)(*filter(None, [stage.argument]))
    kind = config.stage if stage.program == "train" else stage.program
    chosen = _chosen(stage, variant, CONCERNS[kind])
    used.update(chosen)
    overrides = {**stage.overrides, **{split_key(k)[1]: v for k, v in chosen.items()}}
    test = {k[5:]: v for k, v in overrides.items() if k.startswith("test.")}
    _update(config, {k: v for k, v in overrides.items() if not k.startswith("test.")})
    config.seed += SEED_STRIDE * (seed // stage.shared_by) if stage.per_seed else 0
    start = {
        role: str(runs / cell[place]) if place in cell else place.format(seed=seed)
        for role, place in stage.start.items()
    }
    for role, place in start.items():
        if stage.start[role] not in cell and not pathlib.Path(place).is_dir():
            raise ValueError(
                f"start.{role} is {place!r}, expected a stage before it or a folder"
            )
    dataset = config.data.dataset
    config.data.data_dir = data_dir
    if stage.program == "train":
        config.start.update(start)
    settings = resolve(config)
    tested = to_dict(from_dict(TestConfig, test)) if kind == "evaluate" else {}
    needs = tuple(cell[place] for place in stage.start.values() if place in cell)
    described = _described(kind, settings, tested) | {
        "start": {
            role: pathlib.Path(place).name if stage.start[role] in cell else place
            for role, place in start.items()
        },
        "dataset": dataset,
    }
    key = f"{kind}-{_digest(described)}"
    return Task(key, stage.name, stage.program, to_dict(settings), tested, start, needs)


def _chosen(
    stage: Stage, variant: Variant, sections: tuple[str, ...]
) -> dict[str, Any]:
    """Return the variant's overrides that reach a stage."""
    found = {}
    for key, value in variant.overrides.items():
        stages, name = split_key(key)
        section, dot, _ = name.partition(".")
        concerned = section in sections or not dot
        if stage.name in stages or (not stages and concerned):
            found[key] = value
    return found


@functools.lru_cache
def _load(path: str) -> Callable[..., ml_collections.ConfigDict]:
    return load_config_function(path)


def _update(config: ml_collections.ConfigDict, overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        try:
            config.update_from_flattened_dict({key: value})
        except (AttributeError, KeyError) as error:
            raise ValueError(
                f"{key} is unknown, expected a key of the config"
            ) from error
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{key} is {value!r}, expected a value of the config's type"
            ) from error


def _described(
    kind: str, settings: Settings, test: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all that a task depends on, but for where it lies and starts."""
    found: dict[str, Any] = {"kind": kind, "test": dict(test)}
    if kind == "evaluate":  # the model brings the rest
        return found | ({} if test["mask"] == "mode" else {"policy": settings.policy})
    sections = {name: to_dict(getattr(settings, name)) for name in CONCERNS[kind]}
    for section, name in (("data", "data_dir"), ("data", "dataset")):
        del sections[section][name]
    sections.pop("start", None)
    swap = settings.start.swap_query_encoder
    return found | {"seed": settings.seed, "swap_query_encoder": swap, **sections}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=to_dict)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


class Group(NamedTuple):
    """Tasks that one process does in turn: a training and what it alone feeds."""

    tasks: tuple[Task, ...]

    @property
    def key(self) -> str:
        """Return the key of the first one, where the process keeps its log."""
        return self.tasks[0].key

    @property
    def needs(self) -> set[str]:
        """Return what other processes must have done before."""
        own = {task.key for task in self.tasks}
        return {key for task in self.tasks for key in task.needs} - own


def make_groups(tasks: Mapping[str, Task]) -> list[Group]:
    """Put evaluations with the training of their model, where that is yet to be done.

    Args:
      tasks: what has not been done, each after what it needs.
    """
    members: dict[str, list[Task]] = {}
    for task in tasks.values():
        model = pathlib.Path(task.start.get("model", "")).name
        members.setdefault(model if model in members else task.key, []).append(task)
    return [Group(tuple(group)) for group in members.values()]
