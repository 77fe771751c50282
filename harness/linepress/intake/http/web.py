"""What every answer and request goes through: security headers, a cap on bodies, refusals as JSON or as a page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
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
UPLOAD = re.compile(r"/v1/submissions/[^/]+/files/[^/]+\Z")
FORM_BYTES = 8192
_BODYLESS = ("GET", "HEAD", "OPTIONS", "TRACE")
Known = Callable[[Request], Response | None]
"""Whether a request with a body comes from somebody known; the refusal when it does not."""


class Shield:
    """Middleware: lets a body in only where somebody known sends it, whole and within its limits, before anything
    else reads it; puts `HEADERS` on every answer that does not set its own.

    Uploads are streamed to their route, which bounds them byte by byte.
    """

    def __init__(self, app: ASGIApp, settings: Settings, known: Known) -> None:
        self._app = app
        self._settings = settings
        self._known = known
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

        answer = framing(Headers(scope=scope), scope["http_version"])
        if answer is None and scope["method"] == "PATCH" and UPLOAD.match(scope["path"]):
            answer = await run_in_threadpool(self._known, Request(scope))
        elif answer is None:
            answer, receive = await self._admit(Request(scope), receive)
        if answer is not None:
            answer.headers["Connection"] = "close"  # what is still coming is not read
            await answer(scope, receive, sealed)
            return
        await self._app(scope, receive, sealed)

    async def _admit(self, request: Request, receive: Receive) -> tuple[Response | None, Receive]:
        """``(refusal, None)``, or how the application receives the body that was read."""
        headers = request.headers
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            return None, receive
        if request.method in _BODYLESS:
            return problem(400, "body", f"a {request.method} has no body; leave it out"), receive
        most = self._settings.json_bytes if request.url.path.startswith("/v1/") else FORM_BYTES
        length = headers.get("content-length")
        if length is None:
            return problem(411, "length", "the request does not say how long it is; send Content-Length"), receive
        if not length.isascii() or not length.isdigit() or len(length) > 18 or int(length) > most:
            return problem(413, "too_large", f"the body is over {most} B"), receive
        refusal = await run_in_threadpool(self._known, request)
        if refusal is not None:
            return refusal, receive
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return problem(400, "disconnected", "the connection ended before the body did"), receive
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > most:
                        return problem(413, "too_large", f"the body is over {most} B"), receive
        except TimeoutError:
            late = f"the body did not come within {self._settings.body_s:g} s; send it again"
            return problem(408, "late", late), receive
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        return None, replay


def framing(headers: Headers, version: str = "1.1") -> Response | None:
    """A refusal of requests whose end two readers could see in two places (RFC 9112 § 6.3)."""
    lengths, codings = headers.getlist("content-length"), headers.getlist("transfer-encoding")
    if codings and version == "1.0":
        return problem(400, "framing", "HTTP/1.0 has no Transfer-Encoding; send Content-Length")
    if codings and lengths:
        return problem(400, "framing", "the request has Content-Length and Transfer-Encoding; send one of them")
    if len(lengths) > 1 or len(codings) > 1 or (codings and codings[0].strip().lower() != "chunked"):
        return problem(400, "framing", "the request says more than once, or oddly, how its body ends; say it once")
    return None


def problem(status: int, code: str, text: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """A refusal as JSON."""
    return JSONResponse({"code": code, "error": text}, status, headers)


def wants_json(request: Request) -> bool:
    """Whether the answer is for a program."""
    return request.url.path.startswith("/v1/") or request.url.path in ("/healthz", "/readyz", "/metrics")


def address_of(request: Request) -> str:
    """Address the request came from (the proxy's word where the server trusts the proxy)."""
    return request.client.host if request.client else ""
