"""The ``marssep`` program.

Heavy imports wait until the arguments have been checked.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from marssep_jax import interrupts
from marssep_jax._version import __version__
from marssep_jax.cli_options import (
    check_json,
    check_queries,
    check_separate,
    check_serve,
    checkpoint_or_default,
    export_parser,
    inspect_parser,
    parse,
    separate_parser,
    serve_parser,
)
from marssep_jax.optional import one_line
from marssep_jax.terminal import complain, drop_output, line_of, wants_traceback

OVERVIEW = """usage: marssep COMMAND ...

  separate   get one sound out of recordings: by words, a clip or a picture
  serve      the same on a web page of this machine
  inspect    show what a checkpoint is
  export     write a separator as one file that JAX runs by itself

example:
  marssep separate song.wav --output out --text violin

marssep COMMAND --help tells the rest; marssep --version the version.
"""


@contextlib.contextmanager
def _naming_checkpoint(name: str, path: str) -> Iterator[None]:
    """Put whatever goes wrong with a checkpoint's files down to the argument."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{name} is {path!r}, expected the folder of a trained model "
            f"({one_line(error)})"
        ) from error


def separate(argv: Sequence[str]) -> int:
    """Run ``marssep separate``."""
    options = parse(separate_parser(), argv)
    check_separate(options)
    checkpoint = checkpoint_or_default(options.checkpoint)
    from marssep_jax.file_jobs import is_waiting, plan_jobs  # heavy
    from marssep_jax.file_runs import run_jobs

    suffix = f".{options.format}"
    jobs = plan_jobs(options.inputs, options.output, suffix, options.residual)
    separator = query = None
    if any(is_waiting(job, options.overwrite) for job in jobs):
        from marssep_jax.inference import Separator

        with _naming_checkpoint("--checkpoint", checkpoint):
            separator = Separator.load(checkpoint)
        query = _compose(separator, options)
    how = {name: getattr(options, name) for name in ("mask", "seed", "per_channel")}
    report: dict[str, Any] = {
        "checkpoint": checkpoint,
        "queries": [list(row[:2]) for row in options.queries or []],
        "remove": [list(row[:2]) for row in options.remove or []],
        **how,
        "files": [],
    }
    try:
        for row in run_jobs(separator, jobs, query, options.overwrite, **how):
            report["files"].append(row)
    except BaseException:
        with contextlib.suppress(OSError):  # what was done is worth a report
            _write_json(options.json, report)
        raise
    _write_json(options.json, report)
    return 1 if any(row["status"] == "failed" for row in report["files"]) else 0


def _compose(separator: Any, options: Any) -> Any:
    """Embed the queries of a command, in the order they were typed."""
    from marssep_jax.queries import QueryItem

    weights = options.weights or [1.0] * len(options.queries or [])
    return separator.compose(
        [
            QueryItem(modality, value, weight, label)
            for (modality, value, label), weight in zip(
                options.queries or [], weights, strict=True
            )
        ],
        [QueryItem(m, value, 1.0, label) for m, value, label in options.remove or []],
    )


def export(argv: Sequence[str]) -> int:
    """Run ``marssep export``."""
    options = parse(export_parser(), argv)
    check_queries(options)
    check_json(options.output, "--output")
    from marssep_jax.exporting import export_forward, save_export
    from marssep_jax.inference import Separator

    with _naming_checkpoint("CHECKPOINT", options.checkpoint):
        separator = Separator.load(options.checkpoint)
    asked = options.queries or options.remove
    exported = export_forward(
        separator.bundle,
        _compose(separator, options) if asked else None,
        batch=options.batch,
        platforms=options.platforms.split(","),
    )
    size = save_export(options.output, exported)
    shapes = ", ".join(str(aval.shape) for aval in exported.in_avals)
    rate = separator.bundle.config["frontend"]["sample_rate_hz"]
    print(
        f"{options.output}: {size / 1e6:.1f} MB, takes float32 {shapes} at {rate} Hz, "
        f"runs on {', '.join(exported.platforms)}"
    )
    return 0


def serve(argv: Sequence[str]) -> int:
    """Run ``marssep serve``; it ends by Ctrl-C."""
    options = parse(serve_parser(), argv)
    check_serve(options)
    checkpoint = checkpoint_or_default(options.checkpoint)
    from marssep_jax.optional import import_package

    for package in ("uvicorn", "starlette", "python_multipart"):
        import_package(package, "marssep serve (pip install 'marssep_jax[serve]')")
    from marssep_jax.inference import Separator
    from marssep_jax.serving.limits import Limits
    from marssep_jax.serving.server import listen, run

    limits = Limits(
        upload_bytes=round(options.max_megabytes * 1e6),
        length_s=options.max_minutes * 60,
        requests=options.max_requests,
    )
    with listen(options.host, options.port) as opened:
        with _naming_checkpoint("--checkpoint", checkpoint):
            separator = Separator.load(checkpoint)
        run(separator, opened, options.host, limits)
    return 0


def inspect(argv: Sequence[str]) -> int:
    """Run ``marssep inspect``."""
    options = parse(inspect_parser(), argv)
    check_json(options.json)
    from marssep_jax.inspection import describe, render

    with _naming_checkpoint("CHECKPOINT", options.checkpoint):
        report = describe(options.checkpoint)
    print(render(report))
    _write_json(options.json, report)
    return 0


def _write_json(path: str | None, value: dict[str, Any]) -> None:
    if path is None:
        return
    temporary = f"{path}.{os.getpid()}.part"
    try:
        # A file name that is no text is escaped, which JSON reads back.
        with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(value, file, indent=2, ensure_ascii=False)
            file.write("\n")
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"--json is {path!r}, expected a place with room to write "
            f"({error.strerror})"
        ) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "separate": separate,
    "serve": serve,
    "inspect": inspect,
    "export": export,
}


def _prepare_process() -> None:
    interrupts.install()
    for stream in (sys.stdout, sys.stderr):
        # A file name that is no text must not end a run of many files.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(argv: Sequence[str]) -> int:
    if argv[:1] in (["--help"], ["-h"], ["help"]):
        print(OVERVIEW, end="")
        return 0
    if argv[:1] == ["--version"]:
        print(f"marssep {__version__}")
        return 0
    if not argv or argv[0] not in COMMANDS:
        given = repr(argv[0]) if argv else "missing"
        raise ValueError(f"COMMAND is {given}, expected one of {', '.join(COMMANDS)}")
    try:
        return COMMANDS[argv[0]](argv[1:])
    except SystemExit as stop:  # --help
        return int(stop.code or 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status: 0, 1 on bad input, 130 on Ctrl-C."""
    if argv is None:
        _prepare_process()
    argv = sys.argv[1:] if argv is None else list(argv)
    who = " ".join(["marssep", *(name for name in argv[:1] if name in COMMANDS)])
    try:
        code = _dispatch(argv)
        sys.stdout.flush()  # here, where a reader that has gone is known
        return code
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        drop_output()
        return 0
    except KeyboardInterrupt:
        print(f"{who}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if wants_traceback():
            raise
        complain(who, line_of(error))
    return 1


if __name__ == "__main__":
    sys.exit(main())
