"""Who is served when, and what becomes of the files.

One separation runs at a time, in a thread of its own; the others wait in the order
they came. Every request has a folder, which lives until the page has fetched its
results, or has left, or some minutes have passed.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from marssep_jax.inference import Separator
from marssep_jax.optional import one_line
from marssep_jax.queries import QueryItem
from marssep_jax.serving import jobs
from marssep_jax.serving.limits import Limits
from marssep_jax.serving.uploads import Asked, RefusedError

Event = dict[str, Any]


class Visit:
    """One separation, heard from by the loop that serves its page.

    Its events are ``{"waiting": n}``, n others before this one, ``{"progress":
    share}`` and at last ``{"result": {..}}`` or ``{"error": line}``.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.token = secrets.token_urlsafe(24)
        self.stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call something in the loop, from any thread."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def tell(self, **event: Any) -> None:
        """Add an event, from any thread."""
        self.call(self._events.put_nowait, event)

    async def events(self) -> AsyncIterator[Event]:
        """Yield events; whoever stops listening stops the separation."""
        try:
            while True:
                event = await self._events.get()
                yield event
                if "result" in event or "error" in event:
                    return
        finally:
            self.stop.set()


class Studio:
    """The model, its one worker, and the results that wait to be fetched."""

    def __init__(self, separator: Separator, limits: Limits) -> None:
        self.separator = separator
        self.limits = limits
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="marssep-serve")
        self._places = limits.requests
        self._visits: list[Visit] = []
        self._kept: dict[str, asyncio.TimerHandle] = {}
        self._root = Path()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the folder of all requests; at the end, nothing of it is left."""
        with tempfile.TemporaryDirectory(prefix="marssep-serve-") as root:
            self._root = Path(root)
            self._worker.submit(self._warm)
            try:
                yield
            finally:
                for visit in self._visits:
                    visit.stop.set()
                for timer in self._kept.values():
                    timer.cancel()
                await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)

    def _warm(self) -> None:
        """Compile what words need, before the first visitor waits for it."""
        with contextlib.suppress(ValueError):
            self.separator.compose([QueryItem("text", "a sound")])

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a place while a request arrives; `start` takes it over.

        Raises:
          RefusedError: all are taken.
        """
        if self._places < 1:
            raise RefusedError(
                503,
                f"{self.limits.requests} separations are under way, expected fewer: "
                "try again in a minute",
            )
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    def start(self, asked: Asked) -> Visit:
        """Let a separation wait for its turn; it owns the files from here on."""
        visit = Visit(asked)
        self._places -= 1
        self._visits.append(visit)
        visit.tell(waiting=len(self._visits) - 1)
        future = self._worker.submit(self._run, visit)
        future.add_done_callback(lambda done: visit.call(self._leave, visit, done))
        return visit

    def _leave(self, visit: Visit, done: Future[None]) -> None:
        self._places += 1
        visit.asked.close()
        self._visits.remove(visit)
        for ahead, other in enumerate(self._visits):
            other.tell(waiting=ahead)

    def _run(self, visit: Visit) -> None:
        """Run in the worker's thread."""
        folder = self._root / visit.token
        try:
            if visit.stop.is_set():
                return
            folder.mkdir()
            row = jobs.separate(
                self.separator,
                visit.asked,
                folder,
                self.limits,
                lambda share: visit.tell(progress=round(share, 4)),
                visit.stop,
            )
        except jobs.StoppedError:
            pass
        except (ValueError, OSError) as error:
            visit.tell(error=one_line(error))
        except Exception as error:
            visit.tell(error=unexpected(error))
        else:
            visit.call(self._keep, visit, row)
            return
        shutil.rmtree(folder, ignore_errors=True)

    def _keep(self, visit: Visit, row: dict[str, Any]) -> None:
        self._touch(visit.token)
        if visit.stop.is_set():
            self.delete(visit.token)
        visit.tell(result={"token": visit.token, "files": jobs.FILES, **row})

    def _touch(self, token: str) -> None:
        loop = asyncio.get_running_loop()
        if token in self._kept:
            self._kept[token].cancel()
        self._kept[token] = loop.call_later(self.limits.kept_s, self.delete, token)

    def find(self, token: str, name: str) -> Path | None:
        """Return a result's file, which then lives a while longer, or None."""
        if token not in self._kept or name not in jobs.FILES:
            return None
        self._touch(token)
        return self._root / token / name

    def delete(self, token: str) -> bool:
        """Delete a result; return whether it was there."""
        timer = self._kept.pop(token, None)
        if timer is None:
            return False
        timer.cancel()
        shutil.rmtree(self._root / token, ignore_errors=True)
        return True


def unexpected(error: Exception) -> str:
    """Report what is our mistake on standard error; return a line for the page."""
    line = f"unexpected {type(error).__name__}: {one_line(error)}"
    if os.environ.get("MARSSEP_DEBUG"):
        traceback.print_exception(error)
    else:
        print(f"marssep serve: {line} (MARSSEP_DEBUG=1 shows where)", file=sys.stderr)
    return line
