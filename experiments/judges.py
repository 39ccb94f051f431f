"""Judges that others trained, fitted to a data set's classes on its training clips."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from data_pipelines.catalogue import Catalogue
from experiments.embeddings import INT16_SCALE
from marssep_jax.evaluation.scoring import JudgeFn
from marssep_jax.judges import aisfx, musicnn, probes
from marssep_jax.types import Params

NETWORKS: Mapping[str, Any] = {"aisfx": aisfx, "musicnn": musicnn}
OWN = "own"
CLIPS_PER_CLASS = 24
"""Enough for a linear probe; more would take minutes for a digit."""
BATCH = 16


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names without `OWN`, once each.

    Raises:
      ValueError: an unknown judge.
    """
    for name in names:
        if name != OWN and name not in NETWORKS:
            known = ", ".join((OWN, *NETWORKS))
            raise ValueError(f"judges is {','.join(names)!r}, expected some of {known}")
    return tuple(dict.fromkeys(name for name in names if name != OWN))


def fit_judges(
    names: Sequence[str], catalogue: Catalogue, split: str = "train"
) -> dict[str, JudgeFn]:
    """Fit a ridge probe on each network's embedding of training clips.

    Args:
      names: of `check_names`.
      catalogue: the data set.
      split: training clips; test clips are never fitted on.

    Returns:
      Waveforms at the data set's rate -> class log-probabilities, by name.

    Raises:
      ModuleNotFoundError: a package that carries weights is not installed.
      ValueError: weights with other contents.
    """
    rows = _first_of_each_class(catalogue.clip_label[split])
    clips = np.asarray(catalogue.clips[split][rows], np.float32) * INT16_SCALE
    label = catalogue.clip_label[split][rows]
    found: dict[str, JudgeFn] = {}
    for name in names:
        network = NETWORKS[name]
        params = network.read_params(network.WEIGHTS.find())
        embed = jax.jit(
            functools.partial(network.embed, rate_hz=catalogue.sample_rate_hz)
        )
        heard = _in_batches(functools.partial(embed, params), clips)
        probe, _ = probes.best_ridge(heard, label, len(catalogue.class_names))
        found[name] = _judge(embed, params, probe)
    return found


def _judge(embed: Any, params: Params, probe: probes.Probe) -> JudgeFn:
    return lambda waves: probes.class_log_prob(probe, embed(params, waves))


def _first_of_each_class(label: np.ndarray) -> np.ndarray:
    rows = [np.flatnonzero(label == k)[:CLIPS_PER_CLASS] for k in np.unique(label)]
    return np.sort(np.concatenate(rows))


def _in_batches(embed: Any, clips: np.ndarray) -> np.ndarray:
    """Embed clips a batch at a time; the last one is filled up, not recompiled."""
    found = []
    for start in range(0, len(clips), BATCH):
        part = clips[start : start + BATCH]
        filled = np.zeros((BATCH, clips.shape[1]), np.float32)
        filled[: len(part)] = part
        found.append(np.asarray(embed(filled))[: len(part)])
    return np.concatenate(found)
