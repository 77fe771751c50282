"""Who is asking, and how often: tokens for programs, sessions for browsers, a rate limit for both."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from linepress.intake.http.answers import RefusedError
from linepress.intake.http.web import address_of, problem
from linepress.intake.service import Service
from linepress.intake.settings import Settings
from linepress.intake.store import partners
from linepress.intake.store.audit import Actor
from linepress.intake.store.partners import Caller

ANONYMOUS = "anonymous"


def actor_of(request: Request, caller: Caller) -> Actor:
    """Who acts, for journal and audit log."""
    return Actor(caller.partner, caller.token_id, address_of(request))


def by_token(service: Service, request: Request, text: str | None, scope: str) -> Caller:
    """The partner of a bearer token that has ``scope``; raises `RefusedError`: 401, 403 or 429."""
    with service.db.read() as conn:
        caller = partners.caller_of_token(conn, service.now(), text) if text else None
    if caller is None:
        _failed(service, request, "no token" if not text else "wrong token")
        raise RefusedError(
            401,
            "token",
            "a valid token is missing; send Authorization: Bearer <token>",
            {"WWW-Authenticate": "Bearer"},
        )
    _limit(service, caller)
    if scope not in caller.scopes:
        service.note(actor_of(request, caller), f"scope {scope}", request.url.path, "refused")
        raise RefusedError(403, "scope", f"this token may not {scope}; ask for one with that scope")
    return caller


def by_session(service: Service, request: Request, scope: str = "read") -> Caller | None:
    """The partner whose browser asks; None when nobody is signed in. Raises `RefusedError`: 403 or 429."""
    text = request.cookies.get(cookie_name(service.settings))
    if not text:
        return None
    with service.db.read() as conn:
        caller = partners.caller_of_session(conn, service.now(), text)
    if caller is None:
        return None
    _limit(service, caller)
    if scope not in caller.scopes:
        raise RefusedError(403, "scope", f"your token may not {scope}; ask for one with that scope")
    return caller


def admit(service: Service, request: Request) -> Response | None:
    """Before a body is read: a refusal unless its sender is known, by a token or a session, or signs in by it."""
    if request.url.path == "/sign-in":
        return None
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    cookie = request.cookies.get(cookie_name(service.settings), "")
    with service.db.read() as conn:
        if kind.lower() == "bearer" and partners.caller_of_token(conn, service.now(), text.strip()) is not None:
            return None
        if cookie and partners.caller_of_session(conn, service.now(), cookie) is not None:
            return None
    if not request.url.path.startswith("/v1/"):
        return RedirectResponse("/", 303)
    try:
        by_token(service, request, None, "submit")
    except RefusedError as refusal:
        return problem(refusal.status, refusal.code, refusal.text, refusal.headers)
    return None


def sign_in(service: Service, request: Request, text: str) -> str:
    """A session for the partner of a token; returns the cookie's value. Raises `RefusedError`."""
    caller = by_token(service, request, text.strip(), "read")
    with service.db.write() as conn:
        return partners.open_session(conn, service.now(), caller, service.settings.session_s)


def cookie_name(settings: Settings) -> str:
    """Name of the session cookie; with TLS the prefix that binds it to this host (RFC 6265bis § 4.1.3.2)."""
    return "__Host-linepress" if settings.secure_cookies else "linepress_session"


def form_key(request: Request, settings: Settings) -> str:
    """What a form must carry to show that it comes from a page of this session."""
    secret = request.cookies.get(cookie_name(settings), "")
    return hmac.new(secret.encode(), b"linepress form", hashlib.sha256).hexdigest()


def check_form(request: Request, settings: Settings, given: str) -> None:
    """Raise `RefusedError` unless a form was sent from a page of this session."""
    check_origin(request)
    if not hmac.compare_digest(form_key(request, settings).encode(), given.encode("utf-8", "replace")):
        raise RefusedError(403, "form", "the form is not from your session; open the page again")


def check_origin(request: Request) -> None:
    """Raise `RefusedError` for a form that another site sent."""
    origin = request.headers.get("origin")
    foreign = origin is not None and origin != "null" and urlsplit(origin).netloc != request.headers.get("host")
    if foreign or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise RefusedError(403, "origin", "the form was sent from another site; open the page here")


def _limit(service: Service, caller: Caller) -> None:
    settings = service.settings
    per_s, burst = caller.requests_per_s or settings.requests_per_s, caller.burst or settings.burst
    _wait(service.rates.take(f"token {caller.token_id}", per_s, burst))


def _failed(service: Service, request: Request, why: str) -> None:
    """A wrong token costs its address something; right ones are never held up by it."""
    address = address_of(request)
    per_minute = service.settings.failures_per_minute
    _wait(service.rates.take(f"address {address}", per_minute / 60, max(1.0, per_minute)))
    service.note(Actor(ANONYMOUS, address=address), "token", request.url.path, why)


def _wait(wait_s: float) -> None:
    if wait_s > 0:
        raise RefusedError(
            429,
            "too_many_requests",
            f"too many requests; wait {wait_s:.1f} s",
            {"Retry-After": str(max(1, round(wait_s + 0.5)))},
        )
