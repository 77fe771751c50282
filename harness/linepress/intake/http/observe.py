"""What an operator sees of the service: a JSON line a request, numbers for Prometheus, and whether all is well.

A request has an id, which its answer carries (``X-Request-Id``) and every line about it.
"""

from __future__ import annotations

import contextvars
import json
import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import func, select, update
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from linepress.intake.http.web import address_of, problem
from linepress.intake.service import Service
from linepress.intake.store import states
from linepress.intake.store.database import meta, submissions
from linepress.intake.work import group, jail
from linepress.intake.work.processes import RunnerLock
from linepress.submission.box import sandbox
from linepress.submission.check.ledger import escaped

LOGGER = logging.getLogger("linepress.intake")
LOCAL = ("127.0.0.1", "::1")
PROBE_S = 30.0
_ID = re.compile(r"[A-Za-z0-9-]{8,64}\Z")
_request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="")


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, text, request id, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
            **({"request": _request.get()} if _request.get() else {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


def log_as_json() -> None:
    """Have every logger of this process write JSON lines to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    LOGGER.setLevel(logging.INFO)


class Numbers:
    """The numbers of one service."""

    def __init__(self) -> None:
        self.registry = here = CollectorRegistry()
        self.requests = Counter("linepress_requests", "Answers", ["method", "route", "status"], registry=here)
        self.seconds = Histogram(
            "linepress_request_seconds", "Time to the end of an answer", ["route"], registry=here
        )
        self.received = Counter("linepress_body_bytes", "Bytes of bodies received", registry=here)
        self.submissions = Gauge("linepress_submissions", "Submissions by state", ["state"], registry=here)
        self.oldest = Gauge("linepress_oldest_waiting_seconds", "Age of the oldest to work on", registry=here)
        self.free = Gauge("linepress_disk_free_bytes", "Free on the disk of uploads", registry=here)
        self.runner = Gauge("linepress_runner_alive", "1 while a runner is at work here", registry=here)

    def page(self, service: Service) -> bytes:
        """Everything, as Prometheus reads it."""
        with service.db.read() as conn:
            query = select(submissions.c.state, func.count()).group_by(submissions.c.state)
            counts = {str(state): int(count) for state, count in conn.execute(query)}
            waiting = select(func.min(submissions.c.updated_at)).where(submissions.c.state.in_(states.WORK))
            oldest = conn.execute(waiting).scalar()
        for state in states.MEANING:
            self.submissions.labels(state).set(counts.get(state, 0))
        self.oldest.set(0 if oldest is None else max(0.0, service.now() - float(oldest)))
        self.free.set(shutil.disk_usage(service.settings.uploads).free)
        self.runner.set(RunnerLock(service.settings.data).is_held())
        return generate_latest(self.registry)


class Watch:
    """Middleware, the outermost: gives each request its id, writes its line, counts it."""

    def __init__(self, app: ASGIApp, numbers: Numbers) -> None:
        self._app = app
        self._numbers = numbers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if _ID.match(given) else secrets.token_hex(8)
        token = _request.set(request_id)
        begun_s = time.monotonic()
        status, came = 0, 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            return message

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, counted, marked)
        finally:
            seconds = time.monotonic() - begun_s
            route = getattr(scope.get("route"), "path", "other")
            self._numbers.requests.labels(scope["method"], route, status or "none").inc()
            self._numbers.seconds.labels(route).observe(seconds)
            self._numbers.received.inc(came)
            fields = {
                "method": scope["method"],
                "path": escaped(str(scope["path"]))[:300],
                "status": status,
                "seconds": round(seconds, 4),
                "body_bytes": came,
                "address": address_of(request),
            }
            LOGGER.info("request", extra={"fields": fields})
            _request.reset(token)


class Readiness:
    """Whether the service can do its work: database, disk, runner, and the doors that this machine lets be shut."""

    def __init__(self, service: Service, runner: bool, ask: Callable[..., sandbox.Answer] = sandbox.ask) -> None:
        self._service = service
        self._runner = runner
        self._ask = ask
        self._lock = threading.Lock()
        self._open: list[str] | None = None

    def doors(self) -> list[str]:
        """What a check or run cannot be denied here, in words; looked at once."""
        with self._lock:
            if self._open is None:
                self._open = self._probe()
        return self._open

    def _probe(self) -> list[str]:
        request = {"work": "probe", "memory_bytes": 512 << 20, "mapped_bytes": 8 << 30, "cpu_s": PROBE_S}
        answer = self._ask(request, PROBE_S)
        found = (answer.document or {}).get("isolation")
        if not isinstance(found, dict):
            return [f"the checking process does not start: {answer.reason}"]
        closed = {
            "the network (no namespace)": found.get("network") in ("namespace", "user namespace"),
            "processes of its own (no namespace)": found.get("processes") == "namespace",
            "the file system (no Landlock)": bool(found.get("landlock")),
            "system calls (no seccomp)": found.get("seccomp") is True,
            "more memory for a run's processes together (no delegated cgroup v2; each alone is limited)": (
                group.place() is not None
            ),
        }
        missing = [what for what, shut in closed.items() if not shut]
        if folder := jail.exposed(self._service.settings.data):
            missing.append(f"the data folder, which lies in {folder} where every run may read; move it elsewhere")
        return missing

    def look(self) -> dict[str, str]:
        """What is not as it should be, by part; ``ok`` for the rest."""
        service = self._service
        found = {"database": "ok", "disk": "ok", "runner": "elsewhere", "sandbox": "ok"}
        try:
            if missing := service.db.lacking():
                found["database"] = f"lacks {missing[0]}"
            with service.db.write() as conn:
                conn.execute(update(meta).where(meta.c.key == "audit_head").values(key="audit_head"))
        except SQLAlchemyError as error:
            found["database"] = f"cannot be written ({type(error).__name__})"
        if shutil.disk_usage(service.settings.uploads).free < service.settings.disk_reserve_bytes:
            found["disk"] = "the reserve is used up"
        if self._runner:
            found["runner"] = "ok" if RunnerLock(service.settings.data).is_held() else "none is at work"
        if doors := self.doors():
            found["sandbox"] = f"open: {'; '.join(doors)}"
        return found


def ready(request: Request) -> Response:
    """200 when the service can do its work, 503 with what keeps it from that; details to this machine only.

    Doors that this machine cannot shut are told and keep nothing from working: verdicts tell them too.
    """
    found = request.app.state.readiness.look()
    well = all(found[part] in ("ok", "elsewhere") for part in ("database", "disk", "runner"))
    body = {"status": "ready" if well else "not ready", **(found if from_here(request) else {})}
    return JSONResponse(body, 200 if well else 503, {} if well else {"Retry-After": "5"})


def metrics(request: Request) -> Response:
    """The numbers, to this machine only."""
    if not from_here(request):
        return problem(403, "local", "the numbers are for this machine only")
    text = request.app.state.numbers.page(request.app.state.service)
    return Response(text, media_type="text/plain; version=0.0.4")


def from_here(request: Request) -> bool:
    """Whether a request comes from this machine and was handed on by no proxy."""
    return address_of(request) in LOCAL and "x-forwarded-for" not in request.headers
