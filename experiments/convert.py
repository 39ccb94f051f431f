"""Convert published weights, PyTorch's or safetensors, to a folder of this package.

Examples:
  python -m experiments.convert --encoder=omnisep --source=best.pth \
      --output=weights/omnisep
  python -m experiments.convert --encoder=omnisep --source=best.pth \
      --output=weights/omnisep --dtype=bfloat16 --json=converted.json
  python -m experiments.convert --encoder=minilm --source=package \
      --output=weights/minilm

PyTorch is not needed and no code in a file is run. A separator becomes a model that
`--checkpoint` takes; an encoder becomes a folder that `marssep inspect` shows, with the
tokenizer's files that lay beside the weights. `package` is an installed package that
carries the weights (`make minilm`); it is never imported.
"""

import pathlib
from typing import Any

from absl import flags

from experiments import command
from marssep_jax.conversion.architectures import ARCHITECTURES
from marssep_jax.conversion.convert import DTYPES, Conversion

ENCODER = flags.DEFINE_enum(
    "encoder", None, list(ARCHITECTURES), "What the weights are of.", required=True
)
SOURCE = flags.DEFINE_string(
    "source",
    None,
    "The weights: a file, the folder it is in, or the word package.",
    required=True,
)
OUTPUT = flags.DEFINE_string("output", None, "The folder to write.", required=True)
DTYPE = flags.DEFINE_enum(
    "dtype", None, list(DTYPES), "Type of the parameters; default float32."
)
JSON = flags.DEFINE_string("json", None, "Write what became of every key to this file.")


def main() -> None:
    """Convert what the flags name."""
    from experiments.progress import progress_of
    from marssep_jax.cli_options import check_json
    from marssep_jax.conversion.apply import MismatchError
    from marssep_jax.conversion.convert import convert

    check_json(JSON.value)
    heard: list[Any] = []

    def on_progress(done: int, total: int) -> None:
        if not heard:
            heard.append(progress_of("convert, MB", _megabytes(total)))
        heard[0](_megabytes(done))

    try:
        done = convert(
            ENCODER.value,
            SOURCE.value,
            OUTPUT.value,
            dtype=DTYPE.value,
            on_progress=on_progress,
        )
    except MismatchError as error:
        _write_json({"error": str(error), "keys": error.report.as_dict()})
        raise
    print(summary(done))
    _write_json(record(done))


def _megabytes(count: int) -> int:
    return -(-count // 1_000_000)


def record(done: Conversion) -> dict[str, Any]:
    """Return what was converted, ready for JSON."""
    return {
        "encoder": done.architecture,
        "output": OUTPUT.value,
        "licence": done.licence,
        "non_commercial": done.non_commercial,
        "source": done.source,
        "parameters": done.parameters,
        "size_bytes": done.size_bytes,
        "files": list(done.files),
        "keys": done.report.as_dict(),
    }


def summary(done: Conversion) -> str:
    """Return what was converted in a few lines."""
    title = ARCHITECTURES[done.architecture].title
    lines = [f"{title}: {sum(done.parameters.values()):,} numbers in {OUTPUT.value}"]
    lines += [f"  {part}: {count:,}" for part, count in done.parameters.items()]
    lines.append(f"  size: {done.size_bytes / 1e6:.1f} MB")
    lines += [f"from {name}, SHA-256 {h}" for name, h in done.source["sha256"].items()]
    if done.files:
        lines.append(f"copied: {', '.join(done.files)}")
    if "package" in done.source:
        lines.append(f"out of {done.source['package']}: {done.source['notice']}")
    lines.append(f"licence of the weights: {done.licence}")
    if done.non_commercial:
        lines.append("warning: that licence does not allow commercial use")
    if done.report.dropped:
        lines.append(f"{len(done.report.dropped)} tensors were not needed")
    return "\n".join(lines)


def _write_json(value: dict[str, Any]) -> None:
    from marssep_jax.checkpoint.workdir import write_json

    if JSON.value:
        write_json(pathlib.Path(JSON.value), value)


if __name__ == "__main__":
    command.run(main)
