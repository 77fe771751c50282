"""Plain pages for people: sign in, list, status, log, report, leaderboard. No script, so they work in any browser."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool

from linepress.intake.http.answers import RefusedError
from linepress.intake.http.api import service_of
from linepress.intake.http.guard import actor_of, by_session, check_form, check_origin, cookie_name, form_key, sign_in
from linepress.intake.http.views import certificate_path, log_text, report_path
from linepress.intake.http.web import FORM_BYTES, REPORT_POLICY
from linepress.intake.service import Service
from linepress.intake.store import leaderboard, partners, states, submissions
from linepress.intake.store.partners import Caller

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
REFRESH_S = 5


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("linepress.intake"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["when"] = when
    environment.filters["size"] = size
    environment.filters["number"] = number
    return environment


def load_templates() -> None:
    """Compile every template now, so that no visitor waits for it."""
    for name in _environment().list_templates(extensions=["html"]):
        _environment().get_template(name)


def when(at: float) -> str:
    """``2026-08-22 10:14:03 UTC``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(n_bytes: float) -> str:
    """Bytes with a decimal prefix."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.2f} {unit}"
    return f"{n_bytes:.0f} B"


def number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A rendered template; every value in it is escaped."""
    text = _environment().get_template(template).render(**{"partner": "", "refresh_s": 0, "form": "", **values})
    return HTMLResponse(text, status)


@router.get("/")
def front(request: Request) -> Response:
    """The sign-in form, or the list for whoever has signed in."""
    if by_session(service_of(request), request) is not None:
        return RedirectResponse("/submissions", 303)
    return page("sign-in.html", title="Sign in", problem="")


@router.post("/sign-in")
async def enter(request: Request) -> Response:
    """Open a session with a token."""
    check_origin(request)
    form = await _form(request)
    service = service_of(request)
    try:
        secret = await run_in_threadpool(sign_in, service, request, form.get("token", ""))
    except RefusedError as refusal:
        text = "This token is not valid." if refusal.status == 401 else refusal.text
        return page("sign-in.html", refusal.status, title="Sign in", problem=text)
    answer = RedirectResponse("/submissions", 303)
    settings = service.settings
    answer.set_cookie(
        cookie_name(settings),
        secret,
        max_age=int(settings.session_s),
        httponly=True,
        secure=settings.secure_cookies,
        samesite="strict",
    )
    return answer


@router.post("/sign-out")
async def leave(request: Request) -> Response:
    """End the session."""
    service = service_of(request)
    form = await _form(request)
    check_form(request, service.settings, form.get("form", ""))
    name = cookie_name(service.settings)
    await run_in_threadpool(_close, service, request.cookies.get(name, ""))
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(name, httponly=True, secure=service.settings.secure_cookies, samesite="strict")
    return answer


@router.get("/submissions")
def listing(request: Request, cursor: Annotated[str, Query(max_length=200)] = "") -> Response:
    """The partner's submissions."""
    service = service_of(request)
    caller = by_session(service, request)
    if caller is None:
        return RedirectResponse("/", 303)
    with service.db.read() as conn:
        rows, following = submissions.page(conn, caller.partner, cursor or None)
        used, counts = submissions.overview(conn, caller.partner)
    return page(
        "list.html",
        title="Submissions",
        partner=caller.partner,
        form=form_key(request, service.settings),
        rows=rows,
        following=following,
        used_bytes=used,
        quota_bytes=caller.quota_bytes,
        counts=counts,
        meaning=states.MEANING,
    )


@router.get("/submissions/{submission}")
def status(request: Request, submission: str) -> Response:
    """State, steps, rules and results of one submission."""
    service = service_of(request)
    caller = by_session(service, request)
    if caller is None:
        return RedirectResponse("/", 303)
    with service.db.read() as conn:
        row = submissions.of_partner(conn, caller.partner, submission)
        files_ = submissions.files_of(conn, submission)
        journal = submissions.journal(conn, submission)
        verdict = service.verdict(row)
        place = None
        if row["state"] == states.VALIDATED and row["packed_ratio"] is not None:
            place = leaderboard.position(conn, row["suite"], row["data_format"], row["packed_ratio"], submission)
    shown = row["state"] != states.WITHDRAWN
    return page(
        "status.html",
        title=f"{row['name']}: {row['state']}",
        partner=caller.partner,
        form=form_key(request, service.settings),
        row=row,
        meaning=states.MEANING[row["state"]],
        files=files_ if shown else [],
        journal=journal,
        check=service.check(row),
        verdict=verdict,
        place=place,
        report=shown and report_path(service.settings, submission).is_file(),
        certificate=shown and certificate_path(service.settings, submission).is_file(),
        may_delete="delete" in caller.scopes and shown,
        refresh_s=0 if row["state"] in states.FINAL else REFRESH_S,
        steps=[state for state in states.MEANING if state not in (states.REJECTED, states.WITHDRAWN)],
    )


@router.get("/submissions/{submission}/log")
def log(request: Request, submission: str) -> Response:
    """The log as text."""
    service = service_of(request)
    if _own(service, request, submission) is None:
        return RedirectResponse("/", 303)
    return PlainTextResponse(log_text(service.settings, submission))


@router.get("/submissions/{submission}/report")
def report(request: Request, submission: str) -> Response:
    """The report of the run, in an origin of its own."""
    service = service_of(request)
    if _own(service, request, submission) is None:
        return RedirectResponse("/", 303)
    path = report_path(service.settings, submission)
    if not path.is_file():
        raise RefusedError(404, "no_report", "there is no report of this submission yet")
    return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})


@router.get("/submissions/{submission}/certificate")
def certificate(request: Request, submission: str) -> Response:
    """The signed bundle."""
    service = service_of(request)
    found = _own(service, request, submission)
    if found is None:
        return RedirectResponse("/", 303)
    caller, row = found
    path = certificate_path(service.settings, submission)
    if not path.is_file():
        raise RefusedError(404, "no_certificate", "there is no certificate of this submission")
    service.note(actor_of(request, caller), "certificate fetched", submission)
    return FileResponse(path, media_type="application/zip", filename=f"{row['name']}.lpcert")


@router.post("/submissions/{submission}/delete")
async def delete(request: Request, submission: str) -> Response:
    """Delete a submission."""
    service = service_of(request)
    form = await _form(request)
    caller = await run_in_threadpool(by_session, service, request, "delete")
    if caller is None:
        return RedirectResponse("/", 303)
    check_form(request, service.settings, form.get("form", ""))
    await run_in_threadpool(service.withdraw, caller, actor_of(request, caller), submission)
    return RedirectResponse("/submissions", 303)


@router.get("/leaderboard")
def board(request: Request) -> Response:
    """Validated submissions by packed ratio."""
    service = service_of(request)
    caller = by_session(service, request)
    if caller is None:
        return RedirectResponse("/", 303)
    with service.db.read() as conn:
        rows = leaderboard.ranking(conn, caller.partner)
    boards: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        boards.setdefault((row["suite"], row["data_format"]), []).append(row)
    return page(
        "leaderboard.html",
        title="Leaderboard",
        partner=caller.partner,
        form=form_key(request, service.settings),
        boards=boards,
    )


@router.get("/static/intake.css")
def style() -> Response:
    """The style sheet."""
    text = files("linepress.intake").joinpath("static/intake.css").read_text(encoding="utf-8")
    return Response(text, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


def _own(service: Service, request: Request, submission: str) -> tuple[Caller, dict[str, Any]] | None:
    caller = by_session(service, request)
    if caller is None:
        return None
    with service.db.read() as conn:
        row = submissions.of_partner(conn, caller.partner, submission)
    if row["state"] == states.WITHDRAWN:
        raise RefusedError(410, "gone", "the submission was deleted")
    return caller, row


def _close(service: Service, secret: str) -> None:
    with service.db.write() as conn:
        partners.close_session(conn, secret)


async def _form(request: Request) -> dict[str, str]:
    """Fields of a form; raises `RefusedError` for a body that is none."""
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded" or len(body) > FORM_BYTES:
        raise RefusedError(415, "form", "this is not a form of these pages; open the page again")
    try:
        fields = parse_qs(body.decode("ascii"), max_num_fields=8, keep_blank_values=True)
    except ValueError:
        raise RefusedError(400, "form", "the form does not hold up; open the page again") from None
    return {key: values[-1] for key, values in fields.items()}
