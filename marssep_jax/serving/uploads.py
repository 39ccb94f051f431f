"""Read the form that a visitor sends: a mixture, and what to look for in it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from marssep_jax.config import MASKS
from marssep_jax.queries import MODALITIES
from marssep_jax.serving.limits import Limits
from marssep_jax.serving.sent_files import Upload

ITEM_KEYS = {"modality", "text", "file", "weight", "remove"}
MAX_SEED = 2**31 - 1
MAX_FIELD_BYTES = 100_000


class RefusedError(Exception):
    """A request that is answered by one line and a status."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


class Item(NamedTuple):
    """One thing to look for, or to remove; ``file`` of a clip or a picture."""

    modality: str
    text: str
    file: Upload | None
    weight: float
    remove: bool


class Asked(NamedTuple):
    """A request that has been read; its files are open."""

    mixture: Upload
    items: list[Item]
    mask: str
    seed: int

    def close(self) -> None:
        """Free all files."""
        self.mixture.close()
        for item in self.items:
            if item.file is not None:
                item.file.close()


async def receive(request: Request, limits: Limits) -> Asked:
    """Read a request of the page.

    It is a form of ``mixture``, a file, ``query``, JSON, and the files that the query
    names: ``{"items": [{"modality": "text", "text": "violin", "weight": 1,
    "remove": false}, {"modality": "image", "file": "item1"}], "mask": "mode",
    "seed": 0}``.

    Raises:
      RefusedError: too large, too slow, or not such a form.
    """
    form = await _receive_form(request, limits)
    try:
        return _as_asked(form, limits)
    except BaseException:
        await form.close()
        raise


async def _receive_form(request: Request, limits: Limits) -> FormData:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise RefusedError(415, "request is no form, expected multipart/form-data")
    size = request.headers.get("content-length", "0")
    if size.isdecimal() and int(size) > limits.upload_bytes:
        raise _too_large(limits)
    parser = MultiPartParser(
        request.headers,
        _counted(request, limits),  # type: ignore[arg-type]
        max_files=limits.items + 1,
        max_fields=4,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        async with asyncio.timeout(limits.upload_s):
            return await parser.parse()
    except TimeoutError as error:
        raise RefusedError(
            408, f"upload is slow, expected all of it within {limits.upload_s:g} s"
        ) from error
    except (MultiPartException, UnicodeError) as error:
        line = getattr(error, "message", "Invalid multipart data.").rstrip(".")
        raise RefusedError(400, f"request is no form of the page ({line})") from error


async def _counted(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.upload_bytes:  # sent without a length, or with a wrong one
            raise _too_large(limits)
        yield chunk


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(
        413, f"upload is too large, expected at most {limits.upload_bytes / 1e6:g} MB"
    )


def _as_asked(form: FormData, limits: Limits) -> Asked:
    files = {k: Upload(v) for k, v in form.items() if isinstance(v, UploadFile)}
    mixture = files.pop("mixture", None)
    if mixture is None:
        raise RefusedError(400, "mixture is missing, expected a recording")
    query = _parsed(form.get("query"))
    rows = query.get("items")
    if not isinstance(rows, list) or not 0 < len(rows) <= limits.items:
        raise RefusedError(
            400, f"query has other items, expected a list of 1 to {limits.items}"
        )
    items = [_as_item(row, files, limits) for row in rows]
    if files:
        raise RefusedError(
            400, f"file {min(files)!r} is in no item, expected all to be"
        )
    mask, seed = query.get("mask", "mode"), query.get("seed", 0)
    if mask not in MASKS:
        raise RefusedError(
            400, f"mask is {mask!r:.40}, expected one of {', '.join(MASKS)}"
        )
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise RefusedError(400, f"seed is {seed!r:.40}, expected 0 to {MAX_SEED}")
    return Asked(mixture, items, mask, seed)


def _parsed(query: Any) -> dict[str, Any]:
    try:
        value = json.loads(query if isinstance(query, str) else "")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RefusedError(400, "query is no JSON object, expected one with items")
    return value


def _as_item(row: Any, files: dict[str, Upload], limits: Limits) -> Item:
    if not isinstance(row, dict) or not row.keys() <= ITEM_KEYS:
        raise RefusedError(
            400, f"query holds another item, expected {', '.join(sorted(ITEM_KEYS))}"
        )
    modality, weight = row.get("modality"), row.get("weight", 1.0)
    if modality not in MODALITIES:
        raise RefusedError(
            400,
            f"modality is {modality!r:.40}, expected one of {', '.join(MODALITIES)}",
        )
    if type(weight) not in (int, float) or not 0 < weight <= 1_000:
        raise RefusedError(
            400, f"weight is {weight!r:.40}, expected above 0, at most 1000"
        )
    if modality != "text":
        name = row.get("file")
        file = files.pop(name, None) if isinstance(name, str) else None
        if file is None:
            raise RefusedError(400, f"file is {name!r:.40}, expected one that was sent")
        return Item(modality, "", file, float(weight), bool(row.get("remove")))
    text = row.get("text")
    if not isinstance(text, str) or not 0 < len(text.strip()) <= limits.letters:
        raise RefusedError(
            400,
            f"text is {text!r:.40}, expected words of 1 to {limits.letters} letters",
        )
    return Item(modality, text, None, float(weight), bool(row.get("remove")))
