r"""Run the ``marssep`` program on mutated inputs, and ask its server by such requests.

Examples:
  python -m tests.fuzz.fuzz --num=10000
  python -m tests.fuzz.fuzz --num=1 --seed=1234 --kind=image

Input number n of a seed is the same in every run. A case fails if the program answers
with anything but exit status 0, or 1 and one line of its own words, libraries' words
counted; if it takes longer than ten seconds; or if it leaves a file behind that it was
not asked for, temporary ones included. Failing inputs are kept in the folder --keep.
The server of the page answers every request without a 5xx status, and what it says of
errors is one line of its own words.
"""

import argparse
import contextlib
import faulthandler
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from marssep_jax import cli
from marssep_jax.bundle import ARRAYS, RECORD, save_bundle
from marssep_jax.untrained import untrained_bundle
from tests.fuzz import mutate, requests

SEEDS = Path(__file__).parent / "seeds"
LIMIT_S, HANG_S = 10, 20
SOUNDS = sorted(SEEDS.glob("*.wav")) + sorted(SEEDS.glob("*.[afmo]*"))
PICTURES = [path for path in sorted(SEEDS.iterdir()) if path.suffix[1] in "pjgw"]
PICTURES = [path for path in PICTURES if path.suffix != ".wav"]
MANNERS = ((), (), ("--per-channel",), ("--mask", "sample"))
WORDS = (SEEDS / "words.txt").read_text(encoding="utf-8").splitlines()


class Case(NamedTuple):
    """What to run in a folder; ``files`` are the inputs there.

    Without ``argv``, the file ``request`` is sent to a server.
    """

    argv: list[str]
    files: dict[str, bytes]
    stdin: bytes = b""


class World(NamedTuple):
    """A sound model and a sound recording, beside which one thing is damaged.

    ``scratch`` is where the server at ``port`` has its temporary files.
    """

    model: Path
    sound: bytes
    scratch: Path
    port: int


def audio(world: World, draw: random.Random) -> Case:
    """Damage the recording that is separated."""
    seed = draw.choice(SOUNDS)
    damaged = mutate.damage(seed.read_bytes(), draw)
    query = ("--text", "violin", *draw.choice(MANNERS))
    if draw.random() < 0.2:
        return Case(_separate(["-"], *query), {}, damaged)
    name = f"in{draw.choice((seed.suffix, seed.suffix, '.wav', '.mp3', ''))}"
    return Case(_separate([name], *query), {name: damaged})


def query_audio(world: World, draw: random.Random) -> Case:
    """Damage the recording that is asked with."""
    seed = draw.choice(SOUNDS)
    files = {"in.wav": world.sound, "q": mutate.damage(seed.read_bytes(), draw)}
    option = draw.choice(("--audio", "--remove-audio"))
    return Case(_separate(["in.wav"], option, "q"), files)


def image(world: World, draw: random.Random) -> Case:
    """Damage the picture that is asked with."""
    seed = draw.choice(PICTURES)
    files = {"in.wav": world.sound, "q": mutate.damage(seed.read_bytes(), draw)}
    return Case(_separate(["in.wav"], "--image", "q"), files)


def text(world: World, draw: random.Random) -> Case:
    """Ask in any words."""
    asked = mutate.words(WORDS, draw)
    option = draw.choice(("--text", "--remove-text"))
    more = ["--weights", mutate.words(WORDS, draw)] if draw.random() < 0.1 else []
    return Case(
        _separate(["in.wav"], f"{option}={asked}", *more), {"in.wav": world.sound}
    )


def record(world: World, draw: random.Random) -> Case:
    """Damage the settings of a model, as JSON or as bytes."""
    raw = (world.model / RECORD).read_bytes()
    if draw.random() < 0.7:
        value = mutate.damage_json(json.loads(raw), draw)
        raw = json.dumps(value).encode()
    else:
        raw = mutate.damage(raw, draw)
    arrays = (world.model / ARRAYS).read_bytes()
    return _with_model(world, draw, {RECORD: raw, ARRAYS: arrays})


def arrays(world: World, draw: random.Random) -> Case:
    """Damage the parameters of a model; half of the time its digest knows."""
    damaged = mutate.damage((world.model / ARRAYS).read_bytes(), draw)
    raw = (world.model / RECORD).read_bytes()
    if draw.random() < 0.5:
        intact = hashlib.sha256((world.model / ARRAYS).read_bytes()).hexdigest()
        raw = raw.replace(intact.encode(), hashlib.sha256(damaged).hexdigest().encode())
    return _with_model(world, draw, {RECORD: raw, ARRAYS: damaged})


def request(world: World, draw: random.Random) -> Case:
    """Damage what a browser sends to the page's server."""
    sounds = [path.read_bytes() for path in SOUNDS]
    pictures = [path.read_bytes() for path in PICTURES]
    return Case([], {"request": requests.request(sounds, pictures, WORDS, draw)})


KINDS: dict[str, Callable[[World, random.Random], Case]] = {
    "audio": audio,
    "query_audio": query_audio,
    "image": image,
    "text": text,
    "record": record,
    "arrays": arrays,
    "request": request,
}


def _separate(inputs: Sequence[str], *query: str, model: str = "../model") -> list[str]:
    return ["separate", *inputs, "--output", "out", "--checkpoint", model, *query]


def _with_model(world: World, draw: random.Random, files: dict[str, bytes]) -> Case:
    placed = {f"model/{name}": raw for name, raw in files.items()}
    if draw.random() < 0.5:
        return Case(["inspect", "model"], placed)
    argv = _separate(["in.wav"], "--text", "violin", model="model")
    return Case(argv, placed | {"in.wav": world.sound})


class TooSlow(BaseException):
    """A case took longer than it may; no handler of errors may catch this."""


def _alarm(*_: object) -> None:
    raise TooSlow


def ask(case: Case, world: World, folder: Path) -> str:
    """Send a case's request and return what is wrong, or ""."""
    raw = case.files["request"]
    (folder / "request").write_bytes(raw)
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        wrong = requests.send(world.port, raw, world.scratch, LIMIT_S)
    return wrong or err.getvalue()


def run(case: Case, folder: Path) -> str:
    """Run a case in an empty folder and return what is wrong, or ""."""
    for name, raw in case.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(raw)
    signal.signal(signal.SIGALRM, _alarm)
    signal.alarm(LIMIT_S)
    # An alarm is heard between two lines of Python; this ends a hang in a library.
    faulthandler.dump_traceback_later(LIMIT_S + HANG_S, exit=True)
    with _surroundings(case, folder) as said:
        try:
            code = cli.main(case.argv)
        except TooSlow:
            return f"longer than {LIMIT_S} s"
        except BaseException:
            return traceback.format_exc(limit=-3)
        finally:
            signal.alarm(0)
            faulthandler.cancel_dump_traceback_later()
        text = said()
    if code not in (0, 1):
        return f"exit status {code}: {text}"
    if text.count("\n") != code or "MARSSEP_DEBUG" in text:
        return f"said {text!r}"
    return _left_behind(case, folder, code)


@contextlib.contextmanager
def _surroundings(case: Case, folder: Path) -> Iterator[Callable[[], str]]:
    """Give a case its folder, input and places for output; yield what it complains."""
    place = folder / "tmp"
    place.mkdir()
    with (
        tempfile.TemporaryFile("w+", errors="backslashreplace") as err,
        contextlib.ExitStack() as stack,
    ):

        def said() -> str:
            err.flush()
            err.seek(0)
            return err.read()

        # The descriptor as well: libraries in C have words of their own.
        kept = os.dup(2)
        stack.callback(os.close, kept)
        stack.callback(os.dup2, kept, 2)
        os.dup2(err.fileno(), 2)
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.chdir(folder))
        before = sys.stdin, tempfile.tempdir
        sys.stdin = io.TextIOWrapper(io.BytesIO(case.stdin))
        tempfile.tempdir = str(place)
        try:
            yield said
        finally:
            sys.stdin, tempfile.tempdir = before


def _left_behind(case: Case, folder: Path, code: int) -> str:
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    extra = found - case.files.keys()
    wanted = {p for p in extra if p.startswith("out/") and p.endswith("_target.wav")}
    if code == 0 and case.argv[0] == "separate" and len(wanted) != 1:
        return f"exit status 0, but {sorted(extra)} written"
    if extra - wanted or (code == 1 and wanted):
        return f"left behind: {sorted(extra)}"
    return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Run cases and say which failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=1_000, help="cases")
    parser.add_argument("--seed", type=int, default=0, help="number of the first case")
    parser.add_argument("--kind", choices=KINDS, help="only these")
    parser.add_argument("--keep", type=Path, help="folder for failing inputs")
    options = parser.parse_args(argv)
    begun, failed = time.monotonic(), 0
    codes: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        model, scratch = Path(place) / "model", Path(place) / "scratch"
        save_bundle(model, untrained_bundle())
        scratch.mkdir()
        port = stack.enter_context(requests.serving(scratch))
        world = World(model, (SEEDS / "pcm16.wav").read_bytes(), scratch, port)
        for number in range(options.seed, options.seed + options.num):
            draw = random.Random(number)
            kind = options.kind or draw.choice(sorted(KINDS))
            case = KINDS[kind](world, draw)
            folder = Path(place) / "case"
            folder.mkdir()
            wrong = run(case, folder) if case.argv else ask(case, world, folder)
            codes[kind] += 1
            if wrong:
                failed += 1
                print(f"case {number} ({kind}): {wrong}", flush=True)
                if options.keep:
                    shutil.copytree(folder, options.keep / f"{kind}-{number}")
            shutil.rmtree(folder)
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(codes.items()))
    seconds = time.monotonic() - begun
    print(f"{failed} of {options.num} failed in {seconds:.0f} s ({counts})")
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(main())
