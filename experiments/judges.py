"""Judges that others trained, fitted to a data set's classes on its training clips.

- ``aisfx``, ``musicnn``: a ridge classifier on the network's embedding.
- ``musicnn_tags``: musicnn's own words, for the classes that have one. No class is
  learnt from clips, only how a word's logit spreads over all of them.

Each softmax has the temperature that suits held-out training clips best
(`marssep_jax.judges.probes`).
"""

import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from data_pipelines.catalogue import (
    Catalogue,
    crop_samples,
    require_split,
    save_array,
)
from experiments.batching import in_batches
from experiments.embeddings import INT16_SCALE
from experiments.hashing import hash_tree
from marssep_jax.evaluation import JudgeFn
from marssep_jax.judges import aisfx, musicnn, probes

NETWORKS: Mapping[str, Any] = {"aisfx": aisfx, "musicnn": musicnn}
WORDS = {"musicnn_tags": "musicnn"}
"""Judges by the words of a network."""
OWN = "own"
CLIPS_PER_CLASS = 60
"""With 24, a ridge on 200 features has weights four times as large, and is as sure of
its errors: a few of them then carry the mean log-probability."""
BATCH = 16


def _network_of(name: str) -> str:
    """Return the network that a judge hears with."""
    return WORDS.get(name, name)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names without `OWN`, once each.

    Raises:
      ValueError: an unknown judge.
    """
    known = (OWN, *NETWORKS, *WORDS)
    if not names or set(names) - set(known):
        raise ValueError(
            f"judges is {','.join(names)!r}, expected some of {', '.join(known)}"
        )
    return tuple(dict.fromkeys(name for name in names if name != OWN))


def require_weights(names: Iterable[str]) -> None:
    """Check that what judges hear with is there, before long work that ends with them.

    Args:
      names: known ones (`check_names`).

    Raises:
      ModuleNotFoundError: a package that carries weights is not installed.
      ValueError: weights with other contents.
    """
    for network in {_network_of(name) for name in names if name != OWN}:
        NETWORKS[network].WEIGHTS.find()


def fit_judges(
    names: Sequence[str],
    catalogue: Catalogue,
    directory: pathlib.Path | None = None,
    *,
    split: str = "train",
) -> dict[str, JudgeFn]:
    """Tie each network's hearing of training clips to the classes.

    Args:
      names: of `check_names`.
      catalogue: the data set.
      directory: where to keep what was heard of its clips; None keeps nothing.
      split: training clips; test clips are never fitted on.

    Returns:
      Waveforms at the data set's rate -> class log-probabilities, by name.

    Raises:
      ModuleNotFoundError: a package that carries weights is not installed.
      ValueError: weights with other contents, no such split, or a network that has
        words for fewer than two classes.
    """
    if not names:
        return {}
    require_split(catalogue, split)
    rows = _first_of_each_class(catalogue.clip_label[split])
    # As long as what is judged: whole clips fill two patches of musicnn, crops one.
    clips = np.asarray(catalogue.clips[split][rows, : crop_samples(catalogue)])
    label = catalogue.clip_label[split][rows]
    ears: dict[str, _Ear] = {}
    heard: dict[str, np.ndarray] = {}
    found: dict[str, JudgeFn] = {}
    for name in names:
        network = _network_of(name)
        if network not in ears:
            ears[network] = _Ear(NETWORKS[network], catalogue.sample_rate_hz)
            heard[network] = ears[network].clips(clips, directory)
        probe = _fit(name, ears[network], heard[network], label, catalogue.class_names)
        found[name] = _judge(ears[network], probe)
    return found


def credit(name: str) -> dict[str, Any]:
    """Return whose weights a judge has, and under which licence."""
    weights = NETWORKS[_network_of(name)].WEIGHTS
    return {
        key: getattr(weights, key) for key in ("requirement", "licence", "notice")
    } | {"sha256": dict(weights.files)}


def _fit(
    name: str,
    ear: "_Ear",
    heard: np.ndarray,
    label: np.ndarray,
    class_names: Sequence[str],
) -> probes.Probe:
    if name not in WORDS:
        return probes.best_ridge(heard, label, len(class_names))[0]
    words = musicnn.words_of_classes(class_names)
    if sum(word is not None for word in words) < 2:
        raise ValueError(
            f"judges has {name!r}, expected a data set with two classes or more that "
            f"{WORDS[name]} has words for"
        )
    fit = probes.fit_words(np.asarray(ear.params["tags"]["kernel"]), words)
    return probes.with_temperature(fit, heard, label, len(class_names))[0]


def _judge(ear: "_Ear", probe: probes.Probe) -> JudgeFn:
    return lambda waves: probes.class_log_prob(probe, ear.hear(waves))


def _first_of_each_class(label: np.ndarray) -> np.ndarray:
    rows = [np.flatnonzero(label == k)[:CLIPS_PER_CLASS] for k in np.unique(label)]
    return np.sort(np.concatenate(rows))


class _Ear:
    """A network with its weights, hearing at the rate of a data set."""

    def __init__(self, network: Any, rate_hz: int) -> None:
        self._weights, self._rate_hz = network.WEIGHTS, rate_hz
        self.params = network.read_params(network.WEIGHTS.find())
        embed = jax.jit(functools.partial(network.embed, rate_hz=rate_hz))
        self._embed = functools.partial(embed, self.params)
        self._last: tuple[Any, jax.Array] | None = None

    def hear(self, waves: Any) -> jax.Array:
        """Embed waveforms; two judges with one ear hear the same ones once."""
        if self._last is None or self._last[0] is not waves:
            self._last = waves, self._embed(waves)
        return self._last[1]

    def clips(self, clips: np.ndarray, directory: pathlib.Path | None) -> np.ndarray:
        """Embed int16 clips, or read what was heard of the same ones before."""
        if directory is None:
            return self._in_batches(clips)
        name = f"heard_{self._weights.name}_{self._fingerprint(clips)}.npy"
        kept = _load(directory / name, len(clips))
        if kept is not None:
            return kept
        heard = self._in_batches(clips)
        try:
            save_array(directory / name, heard)
        except OSError:  # a read-only data set: hearing anew takes a minute
            return heard
        return heard

    def _fingerprint(self, clips: np.ndarray) -> str:
        """Return a short hash of the weights and of what they are to hear."""
        described = (sorted(self._weights.files.items()), self._rate_hz)
        return hash_tree(repr(described), clips)

    def _in_batches(self, clips: np.ndarray) -> np.ndarray:
        """Embed int16 clips."""
        return in_batches(
            lambda rows: self._embed(rows * INT16_SCALE), clips, np.float32, BATCH
        )


def _load(path: pathlib.Path, rows: int) -> np.ndarray | None:
    """Read embeddings; None if they are not there or cannot be read."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.ndim == 2 and len(found) == rows else None
