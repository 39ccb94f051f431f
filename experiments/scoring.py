"""Score trained models on the fixed mixtures of a manifest."""

import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.catalogue import Catalogue, load_catalogue
from data_pipelines.manifest import build_manifest, read_manifest
from experiments import compiled
from experiments.datasets import OpenedData, open_bank, require_fit
from experiments.embeddings import EmbeddingBank, evaluation_mixtures
from marssep_jax.bundle import ModelBundle, load_bundle, resolve_bundle
from marssep_jax.config import (
    EncoderConfig,
    FrontendConfig,
    PolicyConfig,
    from_dict,
)
from marssep_jax.evaluation import (
    BATCH_SIZE,
    KINDS,
    Evaluation,
    EvaluationMixture,
    JudgeFn,
    evaluate_mixtures,
)

TEST_SPLITS = ("unseen", "seen", "test")
"""The first of these that a data set has is tested on."""

MASK_SEED = 0
"""Models that are compared are given the same noise."""


class TestSet(NamedTuple):
    """A manifest with the data set that it draws from."""

    manifest: dict[str, Any]
    data: OpenedData


def open_manifest(path: str) -> TestSet:
    """Open a manifest and the data set in whose folder it lies.

    Raises:
      ValueError: no manifest there, or no data set beside it.
    """
    manifest, folder = read_manifest(path), pathlib.Path(path).parent
    return TestSet(manifest, OpenedData(load_catalogue(folder), folder))


def draw_tests(
    data: OpenedData,
    num_mixtures: int,
    *,
    num_samples: int,
    num_sources: int = 2,
    same_family: bool = False,
    split: str = "",
) -> TestSet:
    """Return test mixtures: of unseen recordings where there are any.

    Args:
      data: a data set; mixtures that were prepared with it come first.
      num_mixtures: how many to draw where none were prepared.
      num_samples: their length.
      num_sources: prepared ones have two.
      same_family: the sources of a mixture are of one family.
      split: clips to test on; empty takes the first of `TEST_SPLITS`.

    Raises:
      ValueError: the data set has no such split, or none to test on.
    """
    catalogue, directory = data
    wanted = (split,) if split else TEST_SPLITS
    split = next((name for name in wanted if name in catalogue.clips), "")
    if not split:
        raise ValueError(
            f"dataset {catalogue.dataset!r} has the splits {sorted(catalogue.clips)}, "
            f"expected one of {', '.join(wanted)} among them"
        )
    name = f"manifest_{split}{'_family' if same_family else ''}.json"
    path = None if directory is None else directory / name
    if num_sources == 2 and path is not None and path.exists():
        return TestSet(read_manifest(path), data)
    manifest = build_manifest(
        catalogue,
        split,
        num_mixtures,
        0,
        num_samples=num_samples,
        num_sources=num_sources,
        same_family=same_family,
    )
    return TestSet(manifest, data)


def load_model(path: str, name: str = "checkpoint") -> ModelBundle:
    """Load a separator's bundle.

    Raises:
      ValueError: no model there, or one without a separator.
    """
    try:
        bundle = load_bundle(resolve_bundle(path))
    except ValueError as error:
        raise ValueError(
            str(error).replace("checkpoint is", f"{name} is", 1)
        ) from error
    if bundle.separator_params is None:
        raise ValueError(f"{name} is {path!r}, expected a model with a separator in it")
    return bundle


def model_bank(bundle: ModelBundle, data: OpenedData) -> EmbeddingBank:
    """Embed a data set by a model's own encoder.

    Raises:
      ValueError: a data set that the model's front end does not fit.
    """
    frontend = from_dict(FrontendConfig, bundle.config["frontend"])
    require_fit(data.catalogue, frontend)
    encoder = from_dict(EncoderConfig, bundle.config["encoder"])
    embed = compiled.embedder(encoder, frontend)
    params = bundle.encoder_params["encoder"]
    return open_bank(data, embed, params, encoder, frontend)


def model_mixtures(bundle: ModelBundle, tests: TestSet) -> list[EvaluationMixture]:
    """Render a manifest's mixtures with queries of a model's own encoder.

    Raises:
      ValueError: as `model_bank`.
    """
    bank = model_bank(bundle, tests.data)
    return list(evaluation_mixtures(tests.manifest, tests.data.catalogue, bank))


def asked_kinds(mixtures: Sequence[EvaluationMixture]) -> tuple[str, ...]:
    """Return the kinds of query that can be asked of any of the mixtures."""
    return tuple(
        kind for kind in KINDS if any(np.any(m.queries[kind]) for m in mixtures)
    )


def evaluate_model(
    bundle: ModelBundle,
    mixtures: Sequence[EvaluationMixture],
    judge: JudgeFn | None,
    *,
    kinds: Sequence[str] = KINDS,
    bss: int | None = None,
    mask: str = "mode",
    policy: PolicyConfig | None = None,
    more_judges: Mapping[str, JudgeFn] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score a model.

    Args:
      bundle: the model.
      mixtures: of `model_mixtures`.
      judge: of `experiments.compiled.bundle_judge`; the same for models compared.
      kinds: kinds of query.
      bss: mixtures to compute SIR and SAR for; None takes all.
      mask: "mode", "mean" or "sample": one draw for every query, always the same.
      policy: see `experiments.compiled.bundle_separation`.
      more_judges: see `marssep_jax.evaluation.evaluate_mixtures`.
      on_batch: hears how many mixtures are done.
    """
    length = mixtures[0].target.shape[-1]
    separate = compiled.bundle_separation(bundle, length, mask, policy)
    keys = _mask_keys() if mask == "sample" else itertools.repeat(None)
    return evaluate_mixtures(
        lambda mixture, query: separate(mixture, query, next(keys))[0],
        judge,
        mixtures,
        kinds=kinds,
        batch_size=min(BATCH_SIZE, len(mixtures)),
        bss=bss,
        more_judges=more_judges,
        on_batch=on_batch,
    )


def _mask_keys() -> Iterator[jax.Array]:
    """Yield a key for each batch of mixtures."""
    return map(mask_key, itertools.count())


def mask_key(number: int) -> jax.Array:
    """Return the key that a batch of mixtures draws its masks by."""
    return jax.random.fold_in(jax.random.key(MASK_SEED), number)


class Example(NamedTuple):
    """One target of one mixture, separated by every kind of query.

    ``estimates`` holds a waveform [T] by kind; ``mask`` [H, W] is that of words.
    """

    mixture: np.ndarray
    target: np.ndarray
    estimates: dict[str, np.ndarray]
    mask: np.ndarray
    label: int
    name: str
    caption: str


def make_example(
    bundle: ModelBundle,
    mixture: EvaluationMixture,
    target: int,
    kinds: Sequence[str],
    caption: str,
) -> Example:
    """Separate one target for people to hear and see."""
    wave = mixture.target.sum(axis=0)
    kinds = [kind for kind in kinds if np.any(mixture.queries[kind][target])]
    query = np.stack([mixture.queries[kind][target] for kind in kinds])
    separate = compiled.bundle_separation(bundle, len(wave))
    estimate, mask = separate(jnp.asarray(wave)[None], jnp.asarray(query)[None])
    return Example(
        mixture=wave,
        target=mixture.target[target],
        estimates={k: np.asarray(v) for k, v in zip(kinds, estimate[0], strict=True)},
        mask=np.asarray(mask[0, 0]),
        label=int(mixture.label[target]),
        name=mixture.name,
        caption=caption,
    )


def captions_of(manifest: dict[str, Any], catalogue: Catalogue) -> dict[str, list[str]]:
    """Return the words that ask for each target, by mixture; "" where nothing asks."""
    texts = catalogue.texts
    return {
        entry["id"]: [texts[q["text_id"]] if q else "" for q in entry["queries"]]
        for entry in manifest["mixtures"]
    }
