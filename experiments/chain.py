"""All stages of the method, one after the other, in one workdir.

``stages/`` holds a workdir for each training and ``records.json``, which says what
has ended: a second call goes on from there.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from experiments.agreement import measure_agreement
from experiments.config_files import load_config_function
from experiments.datasets import SYNTHETIC, find_directory, open_data
from experiments.ledger import Chain, Ledger, Record
from experiments.listeners import recorded, train_listeners
from experiments.outcome import write_outcome
from experiments.settings import Settings, resolve
from experiments.stage_rows import stage_rows
from experiments.stages import train_stage
from marssep_jax import interrupts
from marssep_jax.bundle import load_bundle, resolve_bundle
from marssep_jax.checkpoint.workdir import require_config
from marssep_jax.config import to_dict

STAGES = {"supervised": "supervised", "rl": "policy", "continued": "continued"}
"""Steps that train a separator, and what config files call them."""

TRAININGS = ("listeners", *STAGES)


def run_chain(
    config: str,
    workdir: str,
    data_dir: str,
    *,
    announce: Callable[..., None] | None = None,
) -> pathlib.Path:
    """Run all stages, or what is left of them.

    Args:
      config: a file with ``get_config(stage)`` for supervised, policy, continued.
      workdir: where everything goes.
      data_dir: where data sets lie or will lie.
      announce: prints a line.

    Returns:
      The path of the report.

    Raises:
      ValueError: a config, a data set or a workdir that does not fit.
    """
    announce = announce or _say
    folder = pathlib.Path(workdir)
    load = load_config_function(config)
    resolve(load("supervised"))  # refuse it before anything is made
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"workdir is {workdir!r}, expected a folder")
    ledger = Ledger(folder / "stages" / "records.json")
    directory = _prepare(load("supervised").data.dataset, data_dir, announce)
    settings = {
        step: _settings(load(stage), directory, data_dir, folder)
        for step, stage in STAGES.items()
    }
    base = settings["supervised"]
    data = open_data(base.data, base.frontend, base.encoder.image_size)
    if not ledger.has("prepare"):
        rows = [{"name": "prepare", "wall_s": 0.0, "metrics": {}}]
        ledger.close("prepare", rows)
    chain = Chain(folder, settings, data, announce)
    _require_settings(chain, ledger)
    for number, step in enumerate(TRAININGS, 1):
        if not ledger.has(step):
            announce(f"== training {number} of {len(TRAININGS)}: {step}")
            ledger.close(step, _train(chain, step, ledger))
        interrupts.check()
    report = folder / "report.html"
    if not (ledger.has("evaluate") and report.exists()):
        announce("== evaluation of the three models")
        write_outcome(chain, ledger)
    announce(f"report: {report}")
    return report


def _say(text: str) -> None:
    print(text, flush=True)


def _prepare(dataset: str, data_dir: str, announce: Callable[..., None]) -> str:
    """Return the folder of a data set, made now if it can be made."""
    if dataset == SYNTHETIC:
        return dataset
    try:
        return str(find_directory(dataset, data_dir))
    except ValueError:
        if dataset != "instruments":
            raise
    announce(f"== data: preparing {dataset} in {data_dir}")
    from data_pipelines import instruments  # TensorFlow
    from data_pipelines.mixing import keep_off_accelerators

    keep_off_accelerators()
    return str(instruments.prepare(data_dir, announce=announce))


def _settings(
    config: Any, directory: str, data_dir: str, folder: pathlib.Path
) -> Settings:
    """Point a stage at the data and at the models it starts from."""
    config.data.dataset, config.data.data_dir = directory, data_dir
    config.start.encoder = str(folder / "stages" / "listeners")
    if config.start.separator:
        config.start.separator = str(folder / "stages" / "supervised")
    return resolve(config)


def _require_settings(chain: Chain, ledger: Ledger) -> None:
    """Check that what has ended was trained with these settings.

    Raises:
      ValueError: naming the first setting that differs.
    """
    for step in filter(ledger.has, TRAININGS):
        config = (
            recorded(chain.settings["supervised"])
            if step == "listeners"
            else to_dict(chain.settings[step])
        )
        place = chain.stage_dir(step)
        # The folder may have moved, and the time limit follows the policy stage.
        ignored = ("start.", "training.max_wall_s")
        require_config(pathlib.Path(place), config, place, ignored)


def _train(chain: Chain, step: str, ledger: Ledger) -> list[Record]:
    """Run one training and return its stages' rows."""
    place = chain.stage_dir(step)
    if step == "listeners":
        settings = chain.settings["supervised"]
        results = train_listeners(settings, place, chain.data, announce=chain.announce)
        return stage_rows(results)
    settings = chain.settings[step]
    if step == "continued":  # for as long as the policy stage took
        limit = dataclasses.replace(settings.training, max_wall_s=ledger.seconds("rl"))
        settings = dataclasses.replace(settings, training=limit)
    result = train_stage(settings, place, chain.data, announce=chain.announce)
    (row,) = stage_rows([result])
    row["metrics"]["steps"] = result.step
    if settings.stage == "policy":
        model = load_bundle(resolve_bundle(place))
        row["metrics"] |= measure_agreement(settings, model, chain.data)
    return [row | {"name": step, "train_s": result.wall_s}]
