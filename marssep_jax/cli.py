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
from marssep_jax.terminal import Progress

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
            f"({_line(error)})"
        ) from error


def separate(argv: Sequence[str]) -> int:
    """Run ``marssep separate``."""
    options = parse(separate_parser(), argv)
    check_separate(options)
    checkpoint = checkpoint_or_default(options.checkpoint)
    from marssep_jax.file_jobs import plan_jobs  # heavy

    jobs = plan_jobs(
        options.inputs, options.output, f".{options.format}", options.residual
    )
    from marssep_jax.inference import Separator

    with _naming_checkpoint("--checkpoint", checkpoint):
        separator = Separator.load(checkpoint)
    query = _compose(separator, options)
    rows = [_run_one(separator, job, query, options) for job in jobs]
    interrupts.check()
    failed = sum(row["status"] == "failed" for row in rows)
    if options.json:
        _write_json(
            options.json,
            {
                "checkpoint": checkpoint,
                "queries": [list(row[:2]) for row in options.queries or []],
                "remove": [list(row[:2]) for row in options.remove or []],
                "mask": options.mask,
                "files": rows,
            },
        )
    return 1 if failed else 0


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


def _run_one(separator: Any, job: Any, query: Any, options: Any) -> dict[str, Any]:
    """Run one job; report a bad file and let the others go on."""
    from marssep_jax.file_jobs import run_job

    interrupts.check()
    if not options.overwrite and all(path.exists() for path in job.outputs):
        print(f"{job.source}: skipped, {job.target} exists (see --overwrite)")
        return {"input": job.source, "status": "skipped", "target": str(job.target)}
    bar = Progress(job.source)
    try:
        row = run_job(
            separator, job, query, bar.show, mask=options.mask, seed=options.seed
        )
    except (ValueError, OSError) as error:
        bar.clear()
        _complain("marssep separate", error)
        return {"input": job.source, "status": "failed", "error": _line(error)}
    bar.clear()
    notes = ", silent" if row["silent"] else ""
    if row["clipped_samples"]:
        notes += f", {row['clipped_samples']} samples clipped at full scale"
    print(f"{job.source} -> {job.target} ({row['wall_s']:.1f} s{notes})", flush=True)
    return row


def inspect(argv: Sequence[str]) -> int:
    """Run ``marssep inspect``."""
    options = parse(inspect_parser(), argv)
    check_json(options.json)
    from marssep_jax.inspection import describe, render

    with _naming_checkpoint("CHECKPOINT", options.checkpoint):
        report = describe(options.checkpoint)
    print(render(report))
    if options.json:
        _write_json(options.json, report)
    return 0


def _write_json(path: str, value: dict[str, Any]) -> None:
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


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _complain(who: str, error: BaseException) -> None:
    print(f"{who}: {_line(error)}", file=sys.stderr, flush=True)


def _unexpected(error: Exception) -> RuntimeError:
    kind = type(error).__name__
    return RuntimeError(f"{kind}: {error} (MARSSEP_DEBUG=1 shows where)")


def _prepare_process() -> None:
    interrupts.install()
    for stream in (sys.stdout, sys.stderr):
        # A file name that is no text must not end a run of many files.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status: 0, 1 on bad input, 130 on Ctrl-C."""
    if argv is None:
        _prepare_process()
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] in (["--help"], ["-h"], ["help"]):
        print(OVERVIEW, end="")
        return 0
    if argv[:1] == ["--version"]:
        print(f"marssep {__version__}")
        return 0
    who = "marssep"
    try:
        if not argv or argv[0] not in COMMANDS:
            given = repr(argv[0]) if argv else "missing"
            raise ValueError(
                f"COMMAND is {given}, expected one of {', '.join(COMMANDS)}"
            )
        who = f"marssep {argv[0]}"
        return COMMANDS[argv[0]](argv[1:])
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"{who}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("MARSSEP_DEBUG"):
            raise
        expected = isinstance(error, (ValueError, OSError, ImportError))
        _complain(who, error if expected else _unexpected(error))
    return 1


if __name__ == "__main__":
    sys.exit(main())
