"""The ASGI application: routes, shield and error pages put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from linepress import __version__
from linepress.intake.http import api, guard, observe, pages
from linepress.intake.http.answers import RefusedError
from linepress.intake.http.web import Shield, problem, wants_json
from linepress.intake.service import Service
from linepress.intake.settings import Settings
from linepress.submission.check.ledger import escaped, name_of

_PHRASES = {
    400: "the body is not JSON that can be read, or the Host is not one of this service",
    404: "there is no such page",
    405: "this address does not take that method",
}


def build_app(settings: Settings, runner: bool = False) -> FastAPI:
    """The application over ``settings``; ``runner`` says that one is to be at work beside it. Raises `LinepressError`
    where it cannot start."""
    service = Service(settings)
    pages.load_templates()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(
        title="linepress intake",
        version=__version__,
        description="Hand in a model or KV snapshot, get a verdict. Sizes in bytes, times in seconds since 1970 UTC.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # the usual viewers load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    app.state.numbers = observe.Numbers()
    app.state.readiness = observe.Readiness(service, runner)
    app.include_router(api.router)
    app.include_router(pages.router)
    app.add_api_route("/healthz", healthz, methods=["GET"], include_in_schema=False)
    app.add_api_route("/readyz", observe.ready, methods=["GET"], include_in_schema=False)
    app.add_api_route("/metrics", observe.metrics, methods=["GET"], include_in_schema=False)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.allowed_hosts), www_redirect=False)
    app.add_middleware(Shield, settings=settings, known=lambda request: guard.admit(service, request))
    app.add_middleware(observe.Watch, numbers=app.state.numbers)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(OperationalError, _busy)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _broken)
    return app


def healthz() -> dict[str, str]:
    """That the service is alive; whether it can work is `observe.ready`'s to say."""
    return {"status": "ok", "version": __version__}


def _answer(request: Request, status: int, code: str, text: str, headers: dict[str, str] | None = None) -> Response:
    if wants_json(request):
        return problem(status, code, text, headers)
    answer = pages.page("problem.html", status, title=f"{status}", text=text)
    answer.headers.update(headers or {})
    return answer


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _answer(request, error.status, error.code, error.text, error.headers)


def _invalid(request: Request, error: Exception) -> Response:
    """The first thing wrong with a request: where (escaped) and what, never the value."""
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"])
    message = escaped(str(first["msg"]).removeprefix("Value error, "))[:500]
    return _answer(request, 422, "invalid", f"{name_of(place, 200)}: {message}")


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = _PHRASES.get(error.status_code, "the request cannot be granted")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        # the router names the methods of the first route at this address; an address may have several routes
        headers["Allow"] = ", ".join(sorted(_methods(request))) or headers.get("Allow", "")
    return _answer(request, error.status_code, "http", text, headers)


def _methods(request: Request) -> set[str]:
    """Methods that the address of a request takes."""
    return {
        method
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    }


def _gone(request: Request, error: Exception) -> Response:
    """Nobody is there to read this; what came is kept."""
    return problem(400, "disconnected", "the connection ended before the body did; ask for the offset and go on")


def _busy(request: Request, error: Exception) -> Response:
    """The database is locked, or away for a moment: nothing was done, and asking again is right."""
    assert isinstance(error, OperationalError)
    return _answer(request, 503, "busy", "the database is busy; ask again in a moment", {"Retry-After": "1"})


def _broken(request: Request, error: Exception) -> Response:
    """Our own fault: told without a detail, the traceback goes to the server's log."""
    return _answer(request, 500, "internal", "the service failed on this request; try again, or tell the operator")
