"""Embed a data set's captions, clips and pictures, and keep that beside it.

Examples:
  python -m experiments.embed --dataset=instruments --encoder=runs/listeners
  python -m experiments.embed --dataset=vggsound --encoder=weights/imagebind \
      --shards=4 --shard=0

Training and evaluation embed what is missing themselves; this does it beforehand, and
with `--shards` in several processes or on several machines, each with another
`--shard`. A call that was stopped is repeated: what is there stays.
"""

import pathlib
from collections.abc import Mapping

from absl import flags

from experiments import command


def main() -> None:
    """Embed what the flags name."""
    values = flags.FLAGS
    shard, shards = values.shard, values.shards
    if shards < 1:
        raise ValueError(f"shards is {shards}, expected >= 1")
    if shard is None and shards == 1:
        shard = 0
    if shard is None or not 0 <= shard < shards:
        raise ValueError(f"shard is {shard}, expected 0 to {shards - 1}")
    print(embed(values.dataset, values.encoder, values.data_dir, shard, shards))


def embed(dataset: str, encoder: str, data_dir: str, shard: int, shards: int) -> str:
    """Embed a share of a data set and return what was done in one line.

    Args:
      dataset: its name, or its folder.
      encoder: folder of a trained model or a converted encoder.
      data_dir: where data sets lie.
      shard: the share of the work to do, from 0.
      shards: how many shares there are.

    Raises:
      ValueError: no data set, no encoder, or embeddings of others in the way.
      OSError: no room, or no permission.
    """
    from data_pipelines.catalogue import load_catalogue
    from experiments.bank_cache import bank_cache, fill_bank
    from experiments.compiled import embedder
    from experiments.datasets import find_directory, require_fit
    from experiments.progress import progress_of
    from experiments.starts import load_named_encoder
    from marssep_jax.config import FrontendConfig

    directory = find_directory(dataset, data_dir)
    catalogue = load_catalogue(directory)
    config, trained_with, params = load_named_encoder(encoder)
    if trained_with is not None:
        require_fit(catalogue, trained_with)
    frontend = trained_with or FrontendConfig(catalogue.sample_rate_hz)
    cache = bank_cache(directory, catalogue, config, frontend, params)
    total, done = cache.count_missing(shard, shards), 0
    hear = progress_of("embed", total)

    def on_batch(rows: int) -> None:
        nonlocal done
        done += rows
        hear(done)

    share = {"shard": shard, "shards": shards}
    run = embedder(config, frontend)
    fill_bank(cache, run, params, catalogue, on_batch=on_batch, **share)
    return summary(cache.header.tables, cache.folder, done, cache.count_missing())


def summary(
    tables: Mapping[str, tuple[int, ...]],
    folder: pathlib.Path,
    done: int,
    missing: int,
) -> str:
    """Return what was embedded, and what is there now, in one line."""
    counts = ", ".join(f"{name} {shape[0]:,}" for name, shape in tables.items())
    total = sum(shape[0] for shape in tables.values())
    rest = f", {missing:,} rows are still missing" if missing else ""
    return f"embedded {done:,} of {total:,} rows ({counts}) in {folder}{rest}"


if __name__ == "__main__":
    flags.DEFINE_string("dataset", None, "A prepared data set, its name or its folder.")
    flags.DEFINE_string(
        "encoder", None, "Folder of a trained model or a converted encoder."
    )
    flags.DEFINE_string("data_dir", "data", "Folder of all data sets.")
    flags.DEFINE_integer("shards", 1, "Processes that share the work.")
    flags.DEFINE_integer("shard", None, "Which of them this is, from 0.")
    flags.mark_flags_as_required(["dataset", "encoder"])
    command.run(main)
