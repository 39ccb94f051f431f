r"""Ask a trained encoder for sounds in words that no caption has.

Examples:
  python -m experiments.paraphrases --checkpoint=runs/listeners
  python -m experiments.paraphrases --checkpoint=runs/minilm \
      --compare=runs/listeners --split=unseen --json=paraphrases.json

A table names for each paraphrase the class it means. It is right by sound if the mean
of that class's clips is nearer than those of the others, and by words if the mean of
its captions is. Intervals are 95 % bootstrap intervals over paraphrases.
"""

import pathlib
from typing import Any

from absl import flags

from experiments import command

TABLE = pathlib.Path(__file__).with_suffix(".csv")
TITLES = {
    "audio": "paraphrases, by sound",
    "captions": "paraphrases, by words",
    "ordinary": "captions, by sound",
}


def main() -> None:
    """Measure what the flags name."""
    values = flags.FLAGS
    from data_pipelines.catalogue import load_catalogue
    from experiments import asking
    from experiments.datasets import find_directory
    from experiments.provenance import versions
    from marssep_jax.checkpoint.workdir import write_json
    from marssep_jax.cli_options import check_json

    check_json(values.json)
    rows = asking.read_table(values.table)
    catalogue = load_catalogue(find_directory(values.dataset, values.data_dir))
    record = asking.measure(values.checkpoint, catalogue, values.split, rows)
    print(table(record))
    if values.compare:
        other = asking.measure(values.compare, catalogue, values.split, rows)
        record |= {"compare": other, "paired": asking.paired(record, other)}
        print(table(other))
        print(table(record["paired"]))
    record |= {"table": pathlib.Path(values.table).name, "versions": versions()}
    if values.json:
        write_json(pathlib.Path(values.json), record)


def table(record: dict[str, Any]) -> str:
    """Lay a model's accuracies out as text, or the differences of two."""
    if "minus" in record:
        lines = [f"difference to {record['minus']}"]
    else:
        lines = [f"{record['checkpoint']}: text tower {record['text_tower']}"]
    for way, title in TITLES.items():
        if way in record:
            entry = record[way]
            low, high = entry["ci95"]
            lines.append(
                f"  {title:21} {entry['accuracy']:6.3f}  {low:6.3f} {high:6.3f}  "
                f"of {entry['num']}"
            )
    if "ordinary" in record:
        own = record["ordinary"]
        lines.append(
            f"  {'R@1, clip to caption':21} {own['recall_at_1']:6.3f}  and back "
            f"{own['recall_at_1_back']:.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    flags.DEFINE_string("checkpoint", None, "A model, or the run it is in.")
    flags.DEFINE_string("compare", None, "Another model, for paired differences.")
    flags.DEFINE_string("table", str(TABLE), "Paraphrases, a CSV of label,paraphrase.")
    flags.DEFINE_string("dataset", "instruments", "A data set, its name or folder.")
    flags.DEFINE_string("data_dir", "data", "Folder of all data sets.")
    flags.DEFINE_string("split", "seen", "Whose clips stand for the classes.")
    flags.DEFINE_string("json", None, "Write accuracies and answers to this file.")
    flags.mark_flag_as_required("checkpoint")
    command.run(main)
