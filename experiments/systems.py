"""Whose estimates are scored: baselines, models, folders of wavs."""

import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import compiled, scoring
from experiments.embeddings import EmbeddingBank, queries_of
from experiments.estimates import hash_estimates, read_estimates
from experiments.hashing import hash_tree
from marssep_jax.bundle import ModelBundle
from marssep_jax.config import (
    MASKS,
    FrontendConfig,
    SeparatorConfig,
    from_dict,
    to_dict,
)
from marssep_jax.evaluation import (
    ABSENT_KIND,
    ALL_KINDS,
    BASELINES,
    separate_asked,
    stack_queries,
)
from marssep_jax.sharding import where_data_are

Entries = Sequence[Mapping[str, Any]]
"""Mixtures of a manifest."""

UNASKED = "none"
"""The kind of estimates that no query asked for."""

MODEL, OTHER = "model", "compare"


class Estimated(NamedTuple):
    """What a system made of a batch.

    Attributes:
      estimate: waveforms [b, q, k, t], by kind and target.
      asked: whether there is such an estimate [b, q, k].
      left_db: what an absent class leaves, [b]; NaN where none was asked for, None
        where the system is not asked.
    """

    estimate: jax.Array
    asked: np.ndarray
    left_db: Any = None


class System(NamedTuple):
    """Something that makes estimates.

    Attributes:
      name: what rows call it.
      title: what people call it.
      kinds: the kinds of query that it is asked with.
      estimate: ``(number, entries, targets [b, k, t]) -> Estimated``, where the
        targets lie; the batch's number is what randomness may depend on.
      described: what its rows depend on, plain values.
      lacks: how rows call an estimate that is not there.
    """

    name: str
    title: str
    kinds: tuple[str, ...]
    estimate: Callable[[int, Entries, jax.Array], Estimated]
    described: Any
    lacks: str = "unasked"


def baseline(name: str) -> System:
    """Return a baseline by its name in `marssep_jax.evaluation.BASELINES`.

    Raises:
      ValueError: an unknown one.
    """
    if name not in BASELINES:
        raise ValueError(
            f"baselines has {name!r}, expected some of {', '.join(BASELINES)}"
        )

    def estimate(number: int, entries: Entries, target: jax.Array) -> Estimated:
        return Estimated(BASELINES[name](target)[:, None], _all_of(target))

    return System(name, name.replace("_", " "), (UNASKED,), estimate, name)


def _all_of(target: jax.Array) -> np.ndarray:
    return np.ones((target.shape[0], 1, target.shape[1]), bool)


def folder_of_wavs(path: str, tests: scoring.TestSet) -> System:
    """Return what lies in a folder of estimates; see `experiments.estimates`.

    Raises:
      ValueError: no folder, or no estimates in it; by ``estimate``, a file that does
        not fit its mixture.
    """
    folder, catalogue = pathlib.Path(path), tests.data.catalogue
    described = hash_estimates(folder, tests.manifest, catalogue.class_names)

    def estimate(number: int, entries: Entries, target: jax.Array) -> Estimated:
        read = functools.partial(
            read_estimates,
            folder,
            class_names=catalogue.class_names,
            rate_hz=catalogue.sample_rate_hz,
            num_samples=target.shape[-1],
        )
        waves, there = zip(*(read(entry) for entry in entries), strict=True)
        (device,) = target.devices()
        found = jax.device_put(np.stack(waves)[:, None], device)
        return Estimated(found, np.stack(there)[:, None])

    name = f"estimates:{path.rstrip('/')}"
    return System(name, path, (UNASKED,), estimate, described, lacks="missing")


def model(
    name: str,
    title: str,
    bundle: ModelBundle,
    tests: scoring.TestSet,
    kinds: Sequence[str],
    mask: str = MASKS[0],
) -> System:
    """Return a separator that is asked by queries of its own encoder.

    Args:
      name: what rows call it.
      title: where it comes from.
      bundle: the model.
      tests: the mixtures.
      kinds: kinds of query; those that no mixture can be asked by are left out.
      mask: one of `marssep_jax.config.MASKS`; "sample" is one draw, always the same.

    Raises:
      ValueError: no kind is left, or a data set that the front end does not fit.
    """
    frontend = from_dict(FrontendConfig, bundle.config["frontend"])
    bank = scoring.model_bank(bundle, tests.data)
    split, length = tests.manifest["split"], tests.manifest["num_samples"]
    possible = _possible_kinds(tests, bank)
    wanted = tuple(kind for kind in kinds if kind in possible)
    if not wanted:
        raise ValueError(f"queries is {list(kinds)}, expected some of {possible}")
    policy = compiled.bundle_policy(bundle)
    separate = where_data_are(
        compiled.separation(
            from_dict(SeparatorConfig, bundle.config["separator"]),
            frontend,
            length,
            mask,
            policy,
        ),
        bundle.separator_params,
        bundle.model_state,
    )

    def estimate(number: int, entries: Entries, target: jax.Array) -> Estimated:
        asked = [queries_of(dict(entry), bank, split) for entry in entries]
        query, absent = stack_queries(asked, wanted)
        key = scoring.mask_key(number) if mask == "sample" else None
        found, left = separate_asked(
            lambda mixture, rows: separate(mixture, rows, key)[0],
            target,
            query,
            absent,
            scored_samples=tests.manifest.get("scored_samples"),
        )
        left_db = None
        if ABSENT_KIND in wanted:
            there = np.any(absent, axis=-1)
            left_db = jnp.where(there, left[:, wanted.index(ABSENT_KIND)], np.nan)
        return Estimated(found, np.any(query, axis=-1), left_db)

    described = [_digest(bundle), mask, to_dict(policy)]
    return System(name, title, wanted, estimate, described)


def _possible_kinds(tests: scoring.TestSet, bank: EmbeddingBank) -> tuple[str, ...]:
    missing, found = set(ALL_KINDS), set()
    for queries in _all_queries(tests, bank):
        found |= {kind for kind in missing if np.any(queries[kind])}
        missing -= found
        if not missing:
            break
    return tuple(kind for kind in ALL_KINDS if kind in found)


def _all_queries(
    tests: scoring.TestSet, bank: EmbeddingBank
) -> Iterator[dict[str, np.ndarray]]:
    for entry in tests.manifest["mixtures"]:
        yield queries_of(entry, bank, tests.manifest["split"])[0]


def _digest(bundle: ModelBundle) -> str:
    """Return what tells one model from another."""
    parts = ("frontend", "separator", "encoder")
    config = {part: bundle.config.get(part) for part in parts}
    trees = (bundle.separator_params, bundle.model_state, bundle.encoder_params)
    return hash_tree(json.dumps(config, sort_keys=True), trees)
