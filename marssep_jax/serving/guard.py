"""What surrounds the page: who may ask, headers, and no traceback to anyone."""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marssep_jax.serving.studio import unexpected

# The page loads nothing from elsewhere, and a browser holds it to that.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """An application around another.

    A page of another site may send requests to a server on one's own machine; what
    comes under another host's name or from another origin is refused.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refused(Headers(scope=scope))
        try:
            if refused:
                answer = JSONResponse({"error": refused}, 403)
                await answer(scope, receive, send_on)
            else:
                await self.app(scope, receive, send_on)
        except ClientDisconnect:
            pass
        except Exception as error:
            line = unexpected(error)
            if not begun:
                await JSONResponse({"error": line}, 500)(scope, receive, send_on)

    def _refused(self, headers: Headers) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and _host_name(f"//{host}") not in self.hosts:
            return f"host is {host!r:.80}, expected {' or '.join(sorted(self.hosts))}"
        if origin is not None and origin.partition("://")[2] != host:
            return f"origin is {origin!r:.80}, expected this server's own page"
        return ""


def _host_name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
