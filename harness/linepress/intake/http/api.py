"""The JSON API: what a partner's program talks to. Its description is at ``/v1/openapi.json``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from linepress.intake.http.answers import RefusedError
from linepress.intake.http.forms import NewSubmission, Problem, SubmissionPage, SubmissionState
from linepress.intake.http.guard import actor_of, by_token
from linepress.intake.http.views import certificate_path, log_text, report_path, state_of
from linepress.intake.http.web import REPORT_POLICY
from linepress.intake.service import Service
from linepress.intake.settings import PUBLIC_KEY
from linepress.intake.store import leaderboard, partners, states, submissions, uploads
from linepress.intake.store.partners import Caller

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 401, 403, 404, 409, 410, 411, 413, 422, 423, 429, 507)
}
JSON_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for status in REFUSALS
}
"""`REFUSALS` for routes that answer with something else than JSON: their refusals are JSON all the same."""
OFFSET_TYPE = "application/offset+octet-stream"
_bearer = HTTPBearer(auto_error=False, description="A token that the operator gave you: lpk_…")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
_LARGEST_OFFSET = 2**63 - 1
_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {OFFSET_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}


def service_of(request: Request) -> Service:
    """The service behind a request."""
    found = request.app.state.service
    assert isinstance(found, Service)
    return found


def needs(scope: str) -> Callable[[Request, HTTPAuthorizationCredentials | None], Caller]:
    """A dependency: the caller, whose token has ``scope``."""

    def caller(request: Request, credentials: Credentials) -> Caller:
        return by_token(service_of(request), request, credentials.credentials if credentials else None, scope)

    return caller


Reader = Annotated[Caller, Depends(needs("read"))]
Submitter = Annotated[Caller, Depends(needs("submit"))]
Deleter = Annotated[Caller, Depends(needs("delete"))]
router = APIRouter(prefix="/v1", responses=REFUSALS)


@router.get("/me")
def me(request: Request, caller: Reader) -> dict[str, Any]:
    """Who the token stands for, its scopes, the quota and what of it is used, in bytes."""
    service = service_of(request)
    with service.db.read() as conn:
        used, counts = submissions.overview(conn, caller.partner)
    return {
        "partner": caller.partner,
        "scopes": list(caller.scopes),
        "quota_bytes": caller.quota_bytes,
        "used_bytes": used,
        "uploading": counts.get(states.UPLOADING, 0),
        "submissions": counts,
    }


@router.get("/signing-key", response_class=PlainTextResponse, responses=JSON_REFUSALS)
def signing_key(request: Request, caller: Reader) -> str:
    """The public key that certificates are signed with, PEM, for ``linepress verify --key``."""
    try:
        return (service_of(request).settings.data / PUBLIC_KEY).read_text(encoding="ascii")
    except FileNotFoundError:
        raise RefusedError(
            404, "no_key", "there is no signing key yet; ask again when the runner has begun"
        ) from None


@router.get("/offers")
def offers(request: Request, caller: Reader) -> dict[str, Any]:
    """Suites, memories and accelerators that a submission may name."""
    known = service_of(request).offers
    return {
        "suites": {name: suite.model.title for name, suite in known.suites.items()},
        "memories": list(known.memories),
        "accelerators": list(known.accelerators),
    }


@router.post(
    "/submissions",
    status_code=201,
    response_model=SubmissionState,
    responses={200: {"model": SubmissionState, "description": "Made before with this Idempotency-Key"}},
)
def create(
    request: Request,
    response: Response,
    caller: Submitter,
    wanted: NewSubmission,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=128, pattern=r"^[!-~]+$")] = None,
) -> SubmissionState:
    """Declare a submission. With an Idempotency-Key, sending it again gives the same submission (200)."""
    service = service_of(request)
    row, new = service.create(caller, actor_of(request, caller), wanted, idempotency_key)
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/v1/submissions/{row['id']}"
    with service.db.read() as conn:
        return state_of(row, submissions.files_of(conn, row["id"]), submissions.journal(conn, row["id"]))


@router.get("/submissions", response_model=SubmissionPage)
def listing(request: Request, caller: Reader, cursor: Annotated[str, Query(max_length=200)] = "") -> SubmissionPage:
    """Your submissions, newest first, a page at a time."""
    with service_of(request).db.read() as conn:
        rows, following = submissions.page(conn, caller.partner, cursor or None)
    return SubmissionPage(submissions=[state_of(row) for row in rows], next=following)


@router.get("/submissions/{submission}", response_model=SubmissionState)
def status(request: Request, caller: Reader, submission: str) -> SubmissionState:
    """State, files with what is acknowledged of each, and every step so far."""
    with service_of(request).db.read() as conn:
        row = submissions.of_partner(conn, caller.partner, submission)
        return state_of(row, submissions.files_of(conn, submission), submissions.journal(conn, submission))


@router.head("/submissions/{submission}/files/{number}", response_class=Response, responses=JSON_REFUSALS)
def offset(request: Request, caller: Submitter, submission: str, number: int) -> Response:
    """How much of a file is acknowledged: ``Upload-Offset`` of ``Upload-Length`` bytes."""
    service = service_of(request)
    target = uploads.find(service.db, caller.partner, submission, _number(number))
    return Response(headers={"Upload-Offset": str(target.offset_bytes), "Upload-Length": str(target.length_bytes)})


@router.patch(
    "/submissions/{submission}/files/{number}",
    status_code=204,
    response_class=Response,
    responses={
        **REFUSALS,
        415: {"model": Problem},
        204: {"headers": {"Upload-Offset": {"schema": {"type": "integer"}}}},
    },
    openapi_extra=_UPLOAD_BODY,
)
async def append(
    request: Request,
    submission: str,
    number: int,
    credentials: Credentials,
    upload_offset: Annotated[int, Header(ge=0, le=_LARGEST_OFFSET)],
    upload_checksum: Annotated[str | None, Header(max_length=100)] = None,
) -> Response:
    """Append the body at ``Upload-Offset``; 204 means that every byte up to the answered offset is on the disk.

    409 with ``Upload-Offset`` answers any other offset: go on from the one it tells.
    """
    service = service_of(request)
    token = credentials.credentials if credentials else None
    caller = await run_in_threadpool(by_token, service, request, token, "submit")
    if request.headers.get("content-type") != OFFSET_TYPE:
        raise RefusedError(415, "content_type", f"an upload has Content-Type: {OFFSET_TYPE}")
    acknowledged = await uploads.append(
        service.db,
        service.settings,
        service.now,
        caller.partner,
        submission,
        _number(number),
        upload_offset,
        uploads.parse_checksum(upload_checksum),
        request.stream(),
        lambda conn: token is not None and partners.caller_of_token(conn, service.now(), token) is not None,
    )
    return Response(status_code=204, headers={"Upload-Offset": str(acknowledged)})


@router.post("/submissions/{submission}/complete", status_code=202, response_model=SubmissionState)
def complete(request: Request, caller: Submitter, submission: str) -> SubmissionState:
    """Every byte is sent: have it checked. Asking again changes nothing."""
    return state_of(service_of(request).complete(caller, actor_of(request, caller), submission))


@router.get("/submissions/{submission}/log", response_class=PlainTextResponse, responses=JSON_REFUSALS)
def log(request: Request, caller: Reader, submission: str) -> str:
    """The end of the log of check and run, as text."""
    service = service_of(request)
    _own(service, caller, submission)
    return log_text(service.settings, submission)


@router.get("/submissions/{submission}/result")
def result(request: Request, caller: Reader, submission: str) -> dict[str, Any]:
    """What the check said, rule by rule, and the verdict with its numbers; null for what is not there yet."""
    service = service_of(request)
    row = _own(service, caller, submission)
    return {"state": row["state"], "check": service.check(row), "verdict": service.verdict(row)}


@router.get(
    "/submissions/{submission}/report",
    response_class=FileResponse,
    responses={200: {"content": {"text/html": {}}}},
)
def report(request: Request, caller: Reader, submission: str) -> FileResponse:
    """The report of the run, one HTML page."""
    service = service_of(request)
    _own(service, caller, submission)
    path = report_path(service.settings, submission)
    if not path.is_file():
        raise RefusedError(404, "no_report", "there is no report of this submission yet")
    return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})


@router.get(
    "/submissions/{submission}/certificate",
    response_class=FileResponse,
    responses={200: {"content": {"application/zip": {}}}},
)
def certificate(request: Request, caller: Reader, submission: str) -> FileResponse:
    """The signed bundle for ``linepress verify``."""
    service = service_of(request)
    row = _own(service, caller, submission)
    path = certificate_path(service.settings, submission)
    if not path.is_file():
        raise RefusedError(404, "no_certificate", "there is no certificate of this submission")
    service.note(actor_of(request, caller), "certificate fetched", submission)
    return FileResponse(path, media_type="application/zip", filename=f"{row['name']}.lpcert")


@router.delete("/submissions/{submission}", response_model=SubmissionState)
def delete(request: Request, caller: Deleter, submission: str) -> SubmissionState:
    """Delete a submission with its files, log, report and verdict. The journal and the audit log stay."""
    return state_of(service_of(request).withdraw(caller, actor_of(request, caller), submission))


@router.get("/leaderboard")
def board(
    request: Request,
    caller: Reader,
    suite: Annotated[str, Query(max_length=100)] = "",
    data_format: Annotated[str, Query(max_length=32)] = "",
) -> dict[str, Any]:
    """Validated submissions by packed ratio; others are named only where they asked to be."""
    with service_of(request).db.read() as conn:
        return {"rows": leaderboard.ranking(conn, caller.partner, suite, data_format)}


def _own(service: Service, caller: Caller, submission: str) -> dict[str, Any]:
    with service.db.read() as conn:
        row = submissions.of_partner(conn, caller.partner, submission)
    if row["state"] == "withdrawn":
        raise RefusedError(410, "gone", "the submission was deleted")
    return row


def _number(number: int) -> int:
    if not 0 <= number < 2**31:
        raise RefusedError(404, "not_found", "there is no such file")
    return number
