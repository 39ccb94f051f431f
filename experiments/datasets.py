"""Open the data set that a config names, with its validation mixtures."""

import pathlib
from collections.abc import Generator
from typing import Any, NamedTuple

import jax

from data_pipelines.catalogue import Catalogue, crop_samples, load_catalogue
from data_pipelines.manifest import build_manifest
from data_pipelines.plan import Index, MixtureSpec, plan_mixtures
from experiments.bank_cache import bank_cache, fill_bank, read_bank
from experiments.compiled import embedder
from experiments.embeddings import Banks, CatalogueEmbedder, EmbeddingBank, attach
from experiments.settings import DataConfig, Settings
from experiments.starts import Start, TrainedEncoder, same_encoder
from marssep_jax.config import EncoderConfig, FrontendConfig
from marssep_jax.types import MixtureBatch, Params

SYNTHETIC = "synthetic"
VALIDATION_SEED = 0


class OpenedData(NamedTuple):
    """A catalogue and the folder it came from; None if it was made in memory."""

    catalogue: Catalogue
    directory: pathlib.Path | None


def find_directory(dataset: str, data_dir: str) -> pathlib.Path:
    """Return the newest prepared version of a data set, the full one first.

    Args:
      dataset: its name, or its folder.
      data_dir: where data sets lie.

    Raises:
      ValueError: it has not been prepared.
    """
    if (pathlib.Path(dataset) / "catalogue.json").is_file():
        return pathlib.Path(dataset)
    root = pathlib.Path(data_dir) / dataset
    found = [path.parent for path in root.glob("*/*/catalogue.json")]
    if not found:
        raise ValueError(
            f"dataset is {dataset!r}, expected a prepared folder or a name under "
            f"{data_dir!r} (python -m experiments.prepare makes one)"
        )
    return max(found, key=lambda path: (path.parent.name == "full", *_version(path)))


def _version(path: pathlib.Path) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in path.name.split(".")]


def open_data(
    config: DataConfig, frontend: FrontendConfig, image_size: int
) -> OpenedData:
    """Open a prepared data set, or make the synthetic one.

    Raises:
      ValueError: not prepared, of another rate or length than the front end, or
        without the clips that training and validation need.
    """
    if config.dataset == SYNTHETIC:
        from data_pipelines.synthetic import synthetic_catalogue

        length = frontend.num_samples
        catalogue = synthetic_catalogue(
            length + length // 4,
            crop_samples=length,
            sample_rate_hz=frontend.sample_rate_hz,
            image_size=image_size,
        )
        return OpenedData(catalogue, None)
    directory = find_directory(config.dataset, config.data_dir)
    catalogue = load_catalogue(directory)
    require_fit(catalogue, frontend)
    require_splits(catalogue, config)
    return OpenedData(catalogue, directory)


def require_splits(catalogue: Catalogue, config: DataConfig) -> None:
    """Check that there are clips to train on and to validate on.

    Raises:
      ValueError: naming the split that is missing; a small folder whose files were
        shared out by their names may have none for validation.
    """
    known = ", ".join(sorted(catalogue.clips))
    for name in ("split", "validation_split"):
        value = getattr(config, name)
        if value not in catalogue.clips:
            raise ValueError(
                f"config.data.{name} is {value!r}, expected one of {known} as the data "
                "set has (a column 'split' in a folder's table shares its files out)"
            )


def joined_licences(catalogue: Catalogue) -> str | None:
    """Return the licences of what a data set was made from; None if it names none."""
    licences = catalogue.description.get("licences", {})
    return ", ".join(sorted(set(licences.values()))) or None


def require_fit(catalogue: Catalogue, frontend: FrontendConfig) -> None:
    """Check that clips and front end agree.

    Raises:
      ValueError: another rate, or clips that are too short.
    """
    if catalogue.sample_rate_hz != frontend.sample_rate_hz:
        raise ValueError(
            f"config.frontend.sample_rate_hz is {frontend.sample_rate_hz}, expected "
            f"{catalogue.sample_rate_hz} as the data set has"
        )
    if frontend.num_samples > catalogue.num_samples:
        raise ValueError(
            f"config.frontend.num_samples is {frontend.num_samples}, expected at most "
            f"{catalogue.num_samples} as the clips have (crops of "
            f"{crop_samples(catalogue)} are usual)"
        )


def open_bank(
    data: OpenedData,
    embed: CatalogueEmbedder,
    params: Params,
    config: EncoderConfig,
    frontend: FrontendConfig,
) -> EmbeddingBank:
    """Embed a data set, or read what was embedded before.

    Args:
      data: of `open_data`.
      embed: of `experiments.compiled.embedder`.
      params: the encoder's parameters.
      config: its settings.
      frontend: the front end it hears through.

    Raises:
      ValueError: embeddings beside the data set that are not of these data.
    """
    catalogue, directory = data
    if directory is None:
        return embed(params, catalogue)
    cache = bank_cache(directory, catalogue, config, frontend, params)
    if cache.count_missing():
        try:
            fill_bank(cache, embed, params, catalogue)
        except OSError:  # a read-only data set, or no room beside it
            return embed(params, catalogue)
    return read_bank(cache)


def open_banks(settings: Settings, data: OpenedData, start: Start) -> Banks:
    """Embed a data set by the encoder of the queries and by the reward's."""

    def bank(encoder: TrainedEncoder) -> EmbeddingBank:
        frontend, params = settings.frontend, encoder.params["encoder"]
        embed = embedder(encoder.config, frontend)
        return open_bank(data, embed, params, encoder.config, frontend)

    asked = bank(start.query)
    same = same_encoder(start.query, start.reward)
    return Banks(asked, asked if same else bank(start.reward))


def mixture_spec(settings: Settings) -> MixtureSpec:
    """Return what a config's training mixtures are."""
    data = settings.data
    return MixtureSpec(
        batch_size=settings.training.batch_size,
        num_sources=data.num_sources,
        num_absent=data.num_absent,
        gain_db=data.gain_db,
        eq_db=data.eq_db,
        seed=settings.seed,
        query_concentration=data.query_concentration,
        num_samples=settings.frontend.num_samples,
        same_family_share=data.same_family_share,
    )


def batch_ids(settings: Settings, catalogue: Catalogue, number: int) -> dict[str, Any]:
    """Return which clips, captions and pictures make a training batch, for JSON.

    They are rows of the catalogue, one list a mixture; -1 stands for none.
    """
    split = settings.data.split
    plan = plan_mixtures(Index(catalogue, split), mixture_spec(settings), number)
    plan.pop("query_weight")
    return {"split": split} | {name: ids.tolist() for name, ids in plan.items()}


def training_batches(
    settings: Settings, catalogue: Catalogue, banks: Banks, start_step: int
) -> Generator[MixtureBatch]:
    """Draw this host's share of the training batches from a step on."""
    from data_pipelines.pipeline import mixture_batches  # TensorFlow

    split = settings.data.split
    stream = mixture_batches(
        catalogue,
        split,
        mixture_spec(settings),
        start_step=start_step,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    try:
        for raw in stream:
            yield attach(raw, banks, split)
    finally:
        stream.close()


def validation_manifest(settings: Settings, catalogue: Catalogue) -> dict[str, Any]:
    """Draw the mixtures that every run is validated on, whatever its seed."""
    return build_manifest(
        catalogue,
        settings.data.validation_split,
        settings.data.num_validation,
        seed=VALIDATION_SEED,
        num_samples=settings.frontend.num_samples,
    )
