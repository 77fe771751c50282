"""What every answer and request goes through: security headers, a cap on bodies, refusals as JSON or as a page."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from linepress.intake.settings import Settings

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""For the report of a run: shown in an origin of its own, where no script runs and nothing is fetched."""
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
HSTS = "max-age=63072000; includeSubDomains"
_UPLOAD = re.compile(r"/v1/submissions/[^/]+/files/[^/]+\Z")
_BODYLESS = ("GET", "HEAD", "OPTIONS", "TRACE")


class Shield:
    """Middleware: refuses bodies before they are read, puts `HEADERS` on every answer that does not set its own."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._json_bytes = settings.json_bytes
        self._headers = {**HEADERS, **({"Strict-Transport-Security": HSTS} if settings.secure_cookies else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal(scope, receive, sealed) if refusal is not None else self._app(scope, receive, sealed))

    def _refusal(self, scope: MutableMapping[str, Any]) -> Response | None:
        if scope["method"] == "PATCH" and _UPLOAD.match(scope["path"]):
            return None  # an upload is bounded by its declared length, byte by byte
        headers = Headers(scope=scope)
        length = headers.get("content-length")
        if length is None:
            if scope["method"] in _BODYLESS or "transfer-encoding" not in headers:
                return None
            return problem(411, "length", "the request does not say how long it is; send Content-Length")
        if not length.isascii() or not length.isdigit() or int(length) > self._json_bytes:
            return problem(413, "too_large", f"the body is over {self._json_bytes} B")
        return None


def problem(status: int, code: str, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """A refusal as JSON."""
    return JSONResponse({"code": code, "error": text}, status, headers)


def wants_json(request: Request) -> bool:
    """Whether the answer is for a program."""
    return request.url.path.startswith("/v1/") or request.url.path == "/healthz"


def address_of(request: Request) -> str:
    """Address the request came from (the proxy's word where the server trusts the proxy)."""
    return request.client.host if request.client else ""
