"""The page's application: what can be asked by which address.

``GET /`` is the page, ``GET /api/about`` the model and the limits, ``POST
/api/separate`` answers line by line, each a JSON object (`studio.Visit`), ``GET`` and
``DELETE /results/TOKEN/..`` fetch and delete what came out.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from marssep_jax._version import __version__
from marssep_jax.config import MASKS
from marssep_jax.inference import Separator
from marssep_jax.serving.guard import Guard
from marssep_jax.serving.limits import Limits
from marssep_jax.serving.sent_files import open_recording
from marssep_jax.serving.studio import Studio, Visit
from marssep_jax.serving.uploads import Asked, RefusedError, receive

STATIC = Path(__file__).with_name("static")


def make_app(
    separator: Separator,
    limits: Limits | None = None,
    hosts: Collection[str] | None = None,
) -> ASGIApp:
    """Build the application.

    Args:
      separator: the model; it has an encoder.
      limits: what a visitor may ask.
      hosts: names under which the server may be called; default any.

    Raises:
      ValueError: a model without an encoder.
    """
    if separator.bundle.config["encoder"] is None:
        separator.compose([])  # says what is missing
    studio = Studio(separator, limits or Limits())

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with studio.opened():
            yield

    app = Starlette(
        routes=[
            Route("/", _page),
            Route("/api/about", _about),
            Route("/api/separate", _separate, methods=["POST"]),
            Route("/results/{token}/{name}", _result),
            Route("/results/{token}", _delete, methods=["DELETE"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={
            HTTPException: _http_error,
            RefusedError: _refusal,
            Exception: _unexpected,  # reported by the guard, to whom it goes on
        },
        lifespan=lifespan,
    )
    app.state.studio = studio
    return Guard(app, hosts)


async def _page(_: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _about(request: Request) -> Response:
    studio: Studio = request.app.state.studio
    config, limits = studio.separator.bundle.config, studio.limits
    return JSONResponse(
        {
            "version": __version__,
            "sample_rate_hz": config["frontend"]["sample_rate_hz"],
            "class_names": config.get("class_names") or [],
            "licence": config.get("licence") or "",
            "masks": MASKS,
            "limits": {
                "upload_bytes": limits.upload_bytes,
                "length_s": limits.length_s,
                "items": limits.items,
                "letters": limits.letters,
            },
        }
    )


async def _separate(request: Request) -> Response:
    studio: Studio = request.app.state.studio
    with studio.entered():
        asked = await receive(request, studio.limits)
        try:
            # What is no recording at all need not wait for its turn.
            await asyncio.to_thread(_probe, asked, studio.limits)
        except BaseException as error:
            asked.close()
            if isinstance(error, ValueError):
                raise RefusedError(400, str(error)) from error
            raise
        visit = studio.start(asked)
    return StreamingResponse(_lines(visit), media_type="application/x-ndjson")


def _probe(asked: Asked, limits: Limits) -> None:
    with open_recording(asked.mixture, "mixture", limits):
        pass
    asked.mixture.seek(0)


async def _lines(visit: Visit) -> AsyncIterator[str]:
    async with contextlib.aclosing(visit.events()) as events:  # type: ignore[type-var]
        async for event in events:
            yield json.dumps(event) + "\n"


async def _result(request: Request) -> Response:
    studio: Studio = request.app.state.studio
    path = studio.find(request.path_params["token"], request.path_params["name"])
    if path is None:
        raise RefusedError(404, "result is not here, expected one of the last minutes")
    return FileResponse(path)


async def _delete(request: Request) -> Response:
    studio: Studio = request.app.state.studio
    return JSONResponse({"deleted": studio.delete(request.path_params["token"])})


async def _http_error(_: Request, error: Any) -> Response:
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _refusal(_: Request, error: Any) -> Response:
    return JSONResponse({"error": " ".join(str(error).split())}, error.status)


async def _unexpected(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"unexpected {type(error).__name__}"}, 500)
