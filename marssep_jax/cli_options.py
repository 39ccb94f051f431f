"""What the ``marssep`` program's commands accept, and the checks of it.

argparse rather than absl: several inputs, options that repeat in an order that
matters, and one-line errors with exit status 1. Nothing heavy is imported, so
``--help`` and typing errors answer at once.
"""

import argparse
import math
import os
from collections.abc import Sequence
from typing import Any, NoReturn

from marssep_jax.config import MASKS

DEFAULT_CHECKPOINT = "runs/quickstart/checkpoint"
PACKAGED_CHECKPOINT = "instruments"
"""The name of the model in the package, for where the quickstart has not run."""
_DEFAULT = f"default {DEFAULT_CHECKPOINT}, or else the model in the package"
SEPARATE_EXAMPLE = """example:
  marssep separate song.wav --output out --text "electric guitar" --residual
  marssep separate recordings/ --output out --audio violin.wav --remove-text flute
"""
INSPECT_EXAMPLE = """example:
  marssep inspect runs/quickstart/checkpoint
"""


EXPORT_EXAMPLE = """example:
  marssep export runs/quickstart/checkpoint --output violin.jaxexport --text violin
"""


SERVE_EXAMPLE = """example:
  marssep serve
  marssep serve --port 8000 --checkpoint runs/quickstart/checkpoint --max-minutes 30
"""


class _Parser(argparse.ArgumentParser):
    """A parser that leaves the error's form and exit status to `main`."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message.removeprefix("argument "))


class _Append(argparse.Action):
    """Collect query options in one list, in the order they were typed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        modality = str(option_string).rpartition("-")[2]
        row = (modality, values, str(option_string))
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), row])


def _weights(text: str) -> list[float]:
    try:
        weights = [float(part) for part in text.split(",")]
    except ValueError:
        weights = [math.nan]
    if not all(math.isfinite(w) and w > 0 for w in weights):
        raise argparse.ArgumentTypeError(
            f"is {text!r}, expected numbers above 0 with commas between"
        )
    return weights


def _add_queries(parser: argparse.ArgumentParser) -> None:
    for group, verb in (("", "separate"), ("remove-", "remove")):
        dest = "remove" if group else "queries"
        for modality, what in (
            ("text", "what words say"),
            ("audio", "what sounds like a clip"),
            ("image", "what a picture shows"),
        ):
            parser.add_argument(
                f"--{group}{modality}",
                action=_Append,
                dest=dest,
                metavar=modality.upper(),
                help=f"{verb} {what}; may be repeated",
            )
    parser.add_argument(
        "--weights", type=_weights, metavar="W,W,...", help="one for each query"
    )


def separate_parser() -> _Parser:
    """Return the parser of ``marssep separate``."""
    parser = _Parser(
        prog="marssep separate",
        description="Get one sound out of recordings. Rate, channels, length and "
        "loudness stay as they are.",
        epilog=SEPARATE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="files, folders, - for stdin")
    add("--output", required=True, metavar="DIR", help="folder for NAME_target.wav")
    _add_queries(parser)
    add("--mask", choices=MASKS, default="mode", help="of the policy; default mode")
    add("--seed", type=int, default=0, help="of --mask sample")
    add("--residual", action="store_true", help="also write what is left")
    add(
        "--per-channel",
        action="store_true",
        help="a mask for each channel, not one for all",
    )
    add("--format", choices=("wav", "flac"), default="wav", help="of the output")
    add("--overwrite", action="store_true", help="replace existing outputs")
    add("--checkpoint", metavar="DIR", help=f"or a name; {_DEFAULT}")
    add("--json", metavar="PATH", help="write a report")
    return parser


def inspect_parser() -> _Parser:
    """Return the parser of ``marssep inspect``."""
    parser = _Parser(
        prog="marssep inspect",
        description="Show what a checkpoint is.",
        epilog=INSPECT_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder or a name")
    parser.add_argument("--json", metavar="PATH", help="write the same as JSON")
    return parser


def export_parser() -> _Parser:
    """Return the parser of ``marssep export``."""
    parser = _Parser(
        prog="marssep export",
        description="Write a separator's forward as one file that jax.export loads "
        "without this package. Without a query it takes embeddings as well.",
        epilog=EXPORT_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder or a name")
    parser.add_argument("--output", required=True, metavar="FILE", help="the file")
    _add_queries(parser)
    parser.add_argument("--batch", type=int, default=1, help="windows of a call")
    parser.add_argument(
        "--platforms", default="cpu", metavar="P,P,...", help="cpu, cuda, rocm, tpu"
    )
    return parser


def serve_parser() -> _Parser:
    """Return the parser of ``marssep serve``."""
    parser = _Parser(
        prog="marssep serve",
        description="Serve a page on which recordings are separated. What is sent "
        "stays on this machine and is deleted after use.",
        epilog=SERVE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address; default 127.0.0.1, this machine")
    add("--port", type=int, default=7860, help="default 7860; 0 takes a free one")
    add("--checkpoint", metavar="DIR", help=f"or a name; {_DEFAULT}")
    add("--max-megabytes", type=float, default=100, help="of an upload; default 100")
    add("--max-minutes", type=float, default=10, help="of a recording; default 10")
    add("--max-requests", type=int, default=8, help="at a time; default 8")
    return parser


def check_serve(options: argparse.Namespace) -> None:
    """Check what can be checked before anything heavy is imported.

    Raises:
      ValueError: a port out of range, or a limit that is not above 0.
    """
    if not 0 <= options.port <= 65_535:
        raise ValueError(f"--port is {options.port}, expected 0 to 65535")
    for name in ("max_megabytes", "max_minutes", "max_requests"):
        value = getattr(options, name)
        if not 0 < value < math.inf:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} is {value}, expected a number above 0")


def parse(parser: _Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse a command's arguments, inputs and options in any order.

    Raises:
      ValueError: something missing, unknown or malformed.
    """
    options, unknown = parser.parse_known_intermixed_args(list(argv))
    if unknown:
        known = [name for a in parser._actions for name in a.option_strings]
        raise ValueError(
            f"{unknown[0]}: unknown option, expected one of "
            + ", ".join(name for name in known if name.startswith("--"))
        )
    return options


def check_separate(options: argparse.Namespace) -> None:
    """Check what can be checked before anything heavy is imported.

    Raises:
      ValueError: an empty query, none at all, or weights that do not fit.
    """
    check_queries(options)
    if not options.queries and not options.remove:
        raise ValueError(
            "query is missing, expected at least one of --text, --audio, --image, "
            "--remove-text, --remove-audio, --remove-image"
        )
    if not options.output:
        raise ValueError("--output is '', expected a folder")
    check_json(options.json)


def check_queries(options: argparse.Namespace) -> None:
    """Check that queries say something, and that weights fit them.

    Raises:
      ValueError: an empty query, or another number of weights.
    """
    for _, value, label in [*(options.queries or []), *(options.remove or [])]:
        if not value.strip():
            raise ValueError(f"{label} is {value!r}, expected some words or a file")
    num_queries = len(options.queries or [])
    if options.weights and len(options.weights) != num_queries:
        raise ValueError(
            f"--weights has {len(options.weights)} numbers, expected one for each of "
            f"{num_queries} queries"
        )


def check_json(path: str | None, flag: str = "--json") -> None:
    """Make sure that a report can be written, before the work it reports.

    Raises:
      ValueError: a folder, or a file in a folder that does not exist.
    """
    if path is None:
        return
    if os.path.isdir(path) or not os.path.isdir(os.path.dirname(path) or "."):
        raise ValueError(f"{flag} is {path!r}, expected a file in an existing folder")


def checkpoint_or_default(path: str | None) -> str:
    """Return the checkpoint asked for, the quickstart's, or the package's by name."""
    if path is not None:
        return path
    trained = os.path.exists(DEFAULT_CHECKPOINT)
    return DEFAULT_CHECKPOINT if trained else PACKAGED_CHECKPOINT
