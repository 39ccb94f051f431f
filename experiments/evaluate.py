"""Score a separator, baselines and others' estimates on the mixtures of a manifest.

Examples:
  python -m experiments.evaluate --checkpoint=runs/quickstart \
      --manifest=data/instruments/full/1.0.0/manifest_unseen.json --json=scores.json
  python -m experiments.evaluate --checkpoint=runs/rl --compare=runs/base \
      --manifest=data/instruments/full/1.0.0/manifest_seen.json --queries=text
  python -m experiments.evaluate --checkpoint=runs/rl --judges=own,clap:weights/clap \
      --estimates=outputs/peer --report=scores.html --json=scores.json \
      --manifest=data/instruments/full/1.0.0/manifest_unseen.json

Ratios are in dB (SI-SDR, SDR and their improvements over the mixture; SIR and SAR by
BSS-eval of images). ``judge`` is the log-probability that a held-out classifier gives
the right class. ``judge_aisfx`` and ``judge_musicnn`` are linear probes, fitted on
training clips, of networks that others trained; ``judge_musicnn_tags`` is one such
network's own words for instruments (pip install --no-deps -r requirements-judges.txt).
``clap_text`` and ``clap_audio`` are 100 times CLAP's cosine with the words and with
the target. Intervals are 95 % bootstrap intervals over mixtures. The query "negative"
asks by words for the target less words for the other sources. --mask separates by the
mode of the mask policy, by its mean or by one draw from it.

The first row of the table is the mixture itself. --estimates=DIR adds wav files of
others: DIR/<mixture id>/<number>.wav or <class name>.wav, the number of the source in
the manifest from 0; mono, of the mixtures' rate and length.

Rows, a line a target, are written as they come (--rows, else beside --json); the same
command goes on from the rows that are there. --shards=N --shard=i scores a share, on
any host; --shards=N --merge then writes what one host would have. Local devices take
batches in turn. Numbers are the same bit for bit on equal hosts, however the work is
shared; processors of another kind, or with another number of cores, round otherwise.
"""

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from experiments import command
from marssep_jax.config import MASKS

ROWS_SUFFIX = ".rows.jsonl"


def main() -> None:
    """Score what the flags name."""
    values = flags.FLAGS
    shards, shard = _share(values.shards, values.shard, values.merge)
    from experiments import evaluation_plan, evaluation_record, score_batches
    from experiments.progress import progress_of
    from experiments.score_rows import RowsFile, collect, read_all
    from marssep_jax.cli_options import check_json

    check_json(values.json)
    check_json(values.report, "--report")
    devices = _devices(values.devices)
    plan = evaluation_plan.make_plan(
        checkpoint=values.checkpoint,
        manifest=values.manifest,
        kinds=tuple(values.queries),
        judge_names=values.judges,
        compare=values.compare,
        baselines=values.baselines,
        estimates=values.estimates,
        mask=values.mask,
    )
    for notice in plan.notices:
        print(notice)
    with _rows_path(values.rows, values.json, shards) as path:
        if not values.merge:
            place = shard_path(path, shard, shards)
            mine = range(shard, plan.work.num_batches, shards)
            with RowsFile(place, plan.run) as file:
                sizes = {number: len(plan.work.batch(number)) for number in mine}
                done = sum(sizes[number] for number in file.done & sizes.keys())
                hear = progress_of(
                    "evaluate", sum(sizes.values()), parts=20, start=done
                )
                score_batches.score(
                    plan.work,
                    file,
                    mine,
                    on_batch=lambda n: hear(done + n),
                    devices=devices,
                )
            if shards > 1:
                print(f"{place}: share {shard} of {shards} is done")
                return
        parts = [shard_path(path, number, shards) for number in range(shards)]
        found = collect(read_all(parts, plan.run, plan.work.num_batches), plan.names)
        record = evaluation_record.make_record(plan, found, values.flag_values_dict())
    print("\n".join(evaluation_record.render_text(record)))
    if values.json:
        evaluation_record.write_record(pathlib.Path(values.json), record, found)
    if values.report:
        from experiments.evaluation_report import write_evaluation_report

        write_evaluation_report(pathlib.Path(values.report), plan, record, found)


def _share(shards: int, shard: int | None, merge: bool) -> tuple[int, int]:
    """Return how many shares there are and which one is this process's."""
    if shards < 1:
        raise ValueError(f"shards is {shards}, expected 1 or more")
    if merge and shard is not None:
        raise ValueError(f"shard is {shard}, expected none with merge")
    if shards > 1 and shard is None and not merge:
        raise ValueError(f"shard is missing, expected 0 to {shards - 1}, or merge")
    if not 0 <= (shard or 0) < shards:
        raise ValueError(f"shard is {shard}, expected 0 to {shards - 1}")
    return shards, shard or 0


def _devices(count: int) -> Sequence[Any]:
    """Return this process's devices, all of them for 0.

    Raises:
      ValueError: there are not so many.
    """
    import jax

    found = jax.local_devices()
    if not 0 <= count <= len(found):
        raise ValueError(f"devices is {count}, expected 0 (all) to {len(found)}")
    return found[: count or None]


def shard_path(path: pathlib.Path, shard: int, shards: int) -> pathlib.Path:
    """Return where the rows of a share go: ``NAME.0-of-4.jsonl``."""
    if shards == 1:
        return path
    return path.with_name(f"{path.stem}.{shard}-of-{shards}{path.suffix}")


@contextlib.contextmanager
def _rows_path(
    rows: str | None, json: str | None, shards: int
) -> Iterator[pathlib.Path]:
    """Yield where rows go; without a name they are gone in the end."""
    if rows is not None:
        yield pathlib.Path(rows)
    elif json is not None:
        yield pathlib.Path(json).with_suffix(ROWS_SUFFIX)
    elif shards > 1:
        raise ValueError("rows is missing, expected a file for the rows of shards")
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield pathlib.Path(folder) / f"scores{ROWS_SUFFIX}"


if __name__ == "__main__":
    flags.DEFINE_string("checkpoint", None, "A model, or the run it is in.")
    flags.DEFINE_string("manifest", None, "Mixtures, a JSON file beside a data set.")
    flags.DEFINE_list(
        "queries",
        "text,audio,image,composed",
        "Kinds of query, with commas; negative is one more.",
    )
    flags.DEFINE_list(
        "judges",
        "own",
        "Who judges: own, aisfx, musicnn, musicnn_tags, clap:FOLDER, with commas.",
    )
    flags.DEFINE_enum("mask", "mode", list(MASKS), "Which mask of the policy.")
    flags.DEFINE_string("compare", None, "Another model, for paired differences.")
    flags.DEFINE_list(
        "baselines",
        "ideal_ratio_mask,ideal_binary_mask",
        "Rows beside the mixture's, with commas.",
    )
    flags.DEFINE_list("estimates", [], "Folders of wavs that others made.")
    flags.DEFINE_string("json", None, "Write scores, target by target, to this file.")
    flags.DEFINE_string("rows", None, "Write rows, as they come, to this file.")
    flags.DEFINE_string("report", None, "Write a page with charts and players.")
    flags.DEFINE_integer("shards", 1, "Shares that the batches are dealt into.")
    flags.DEFINE_integer("shard", None, "The share to score, from 0.")
    flags.DEFINE_integer("devices", 0, "Local devices to use; 0 takes all.")
    flags.DEFINE_bool("merge", False, "Read the shares' rows, score nothing.")
    flags.mark_flag_as_required("manifest")
    command.run(main)
