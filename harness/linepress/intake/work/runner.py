"""Moves submissions on: check, suite, run, verdict. One step at a time, each safe to repeat after a crash.

A runner holds a lease on the submission it works on. What a killed runner leaves is taken up where it was: files go
on being assembled, the check is made again, and the run engine resumes the run from its record.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.exc import OperationalError, SQLAlchemyError

from linepress.errors import LinepressError
from linepress.intake.http.answers import RefusedError
from linepress.intake.service import Service
from linepress.intake.store import audit, leaderboard, names, states, submissions, waivers
from linepress.intake.store.retention import sweep
from linepress.intake.work import group, hub, jail, judging, processes
from linepress.intake.work.places import Place, tensor_files
from linepress.intake.work.validation import check_runnable, write_suite
from linepress.records.files import write_atomically
from linepress.submission.check.ledger import EXIT_UNDECIDED, name_of
from linepress.submission.check.limits import Limits
from linepress.submission.check.manifest import suite_conflict
from linepress.submission.submit import check_submission

Row = dict[str, Any]
POLL_S = 0.25
SWEEP_EVERY_S = 20.0
PAUSE_S = 10.0
FETCH_AGAIN_S = 1.0
RUN_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "PYTHONPATH")
USAGE_CODES = (0, 1, 2, 3)
"""Exit codes of ``linepress run`` that say something about the data; others are the service's own trouble."""


class WorkStoppedError(Exception):
    """The lease, or the submission, is gone: nothing further may be done for it."""


class WorkOverError(Exception):
    """The submission has its end, and there is nothing more to do for it."""


class Runner:
    """One worker of a service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.owner = processes.identity()
        self._swept_s = 0.0
        self._turns: dict[str, int] = {}
        self._aside: dict[str, threading.Thread] | None = None

    def run_forever(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; hub references are fetched beside everything else."""
        self._aside = {}
        while not stop.is_set():
            try:
                worked = self.step(stop)
            except OperationalError:
                worked = False  # the database is busy; what was begun is taken up again
            if not worked:
                stop.wait(POLL_S)
        for thread in list(self._aside.values()):
            thread.join()

    def step(self, stop: threading.Event | None = None) -> bool:
        """Take one submission one state further; False when there is none to take."""
        service = self.service
        self._sweep()
        with service.db.write() as conn:
            gone = [owner for owner in submissions.owners(conn) if processes.is_dead(owner)]
            row = submissions.lease(conn, service.now(), self.owner, service.settings.lease_s, gone, self._turns)
        if row is None:
            return False
        self._turns[row["partner"]] = max(self._turns.values(), default=0) + 1
        if self._aside is not None and row["state"] == states.RECEIVED and self._to_fetch(row):
            self._fetch_aside(row, stop or threading.Event())
            return True
        self._guarded(row, self._work, stop)
        return True

    def _to_fetch(self, row: Row) -> bool:
        with self.service.db.read() as conn:
            return bool(Place(self.service.settings, row).absent(submissions.files_of(conn, row["id"])))

    def _fetch_aside(self, row: Row, stop: threading.Event) -> None:
        """Fetch in a thread of its own, one reference of a partner at a time; the others wait without holding up."""
        assert self._aside is not None
        self._aside = {name: thread for name, thread in self._aside.items() if thread.is_alive()}
        if row["partner"] in self._aside or len(self._aside) >= self.service.settings.fetches:
            with self.service.db.write() as conn:
                submissions.release(conn, row["id"], self.owner, self.service.now() + FETCH_AGAIN_S)
            return
        thread = threading.Thread(target=self._guarded, args=(row, self._fetch, stop), daemon=True)
        self._aside[row["partner"]] = thread
        thread.start()

    def _fetch(self, row: Row, stopped: Callable[[], bool]) -> None:
        place = Place(self.service.settings, row)
        self._attempt(row)
        with self.service.db.read() as conn:
            files = submissions.files_of(conn, row["id"])
        try:
            place.fetch(files, stopped)
        except hub.HubError as error:
            place.write_log(f"hub: {error}")
            self._move(row, states.REJECTED, f"hub reference: {error}")
            raise WorkOverError from None
        except hub.FetchStoppedError:
            raise WorkStoppedError from None
        place.assemble(files)
        with self.service.db.write() as conn:
            submissions.note_values(conn, row["id"], {"attempts": row["attempts"]})

    def _guarded(
        self, row: Row, work: Callable[[Row, Callable[[], bool]], None], stop: threading.Event | None
    ) -> None:
        """Hold the lease while ``work`` is done; whatever comes of it leaves the submission to be taken up again."""
        with self._held(row) as lost:
            try:
                work(row, lambda: lost.is_set() or (stop is not None and stop.is_set()))
            except WorkOverError:
                pass
            except RefusedError:
                self._release(row)  # withdrawn meanwhile, and journalled by whoever did that
            except WorkStoppedError:
                self._stopped(row, lost.is_set())
            except (LinepressError, OSError, ValueError, KeyError) as error:
                self._broken(row, error)
            else:
                self._release(row)

    def _work(self, row: Row, stopped: Callable[[], bool]) -> None:
        place = Place(self.service.settings, row)
        state = row["state"]
        if state == states.RECEIVED:
            self._check(place, stopped)
        elif state == states.CHECKED:
            self._enqueue(place)
        elif state == states.QUEUED:
            self._attempt(row)
            self._move(row, states.RUNNING, f"try {row['attempts'] + 1} of at most {self.service.settings.attempts}")
            self._run(place, stopped)
        else:
            self._move(row, states.QUEUED, "the runner was lost; the run goes on from its record")

    def _check(self, place: Place, stopped: Callable[[], bool]) -> None:
        row, settings = place.row, self.service.settings
        with self.service.db.read() as conn:
            files = submissions.files_of(conn, row["id"])
            granted = waivers.granted(conn, row["partner"])
        if place.absent(files):
            self._fetch(row, stopped)
        self._attempt(row)
        place.assemble(files)
        limits = Limits(
            file_bytes=settings.file_bytes,
            total_bytes=settings.submission_bytes,
            files=settings.files,
            base_s=min(Limits().base_s, settings.check_timeout_s),
        )
        report = check_submission(place.files, limits=limits, submitter=row["partner"], waivers=granted)
        if stopped():
            raise WorkStoppedError
        document = {**report.document(), "folder": f"{row['partner']}/{row['name']}", "manifest": report.manifest}
        place.write_log("\n".join([f"check: {report.verdict}", *(finding.line for finding in report.findings)]))
        write_atomically(place.path / "check.json", json.dumps(document, indent=1).encode() + b"\n")
        silent = [f for f in report.findings if f.rule in ("S17", "S19") and f.verdict == "UNDECIDED"]
        if report.exit_code == EXIT_UNDECIDED and silent:
            # The checking process gave no verdict. That may be our own trouble, so it gets the tries it is allowed.
            raise LinepressError(f"{silent[0].rule}: {silent[0].reasons[0]}")
        declared = {file["path"]: file["sha256"] for file in files}
        checked = {file["path"]: file["sha256"] for file in report.files}
        bad = [f"{f.rule} {f.verdict}: {f.reasons[0]}" for f in report.findings if f.verdict != "PASS"]
        if report.exit_code != 0:
            reason = f"{report.verdict}; {bad[0]}" if bad else report.verdict
            self._move(row, states.REJECTED, reason + (f" (and {len(bad) - 1} more rules)" if len(bad) > 1 else ""))
        elif any(declared.get(path) != sha256 for path, sha256 in checked.items()):
            self._move(row, states.REJECTED, "the files are not those that were declared when the upload began")
        elif conflict := suite_conflict(str((report.manifest or {}).get("suite")), row["suite"]):
            self._move(row, states.REJECTED, conflict)
        else:
            self._move(row, states.CHECKED, "all rules pass", attempts=0)

    def _enqueue(self, place: Place) -> None:
        row = place.row
        check = self.service.check(row)
        template = self.service.offers.suites.get(row["suite"])
        if check is None or check["manifest"] is None:
            raise OSError("check.json is gone")
        if template is None:
            self._move(row, states.REJECTED, f"undecided: suite {row['suite']} is no longer offered; submit again")
            return
        try:
            suite = write_suite(place, template, tensor_files(check["files"]))
            problem = check_runnable(suite)
        except LinepressError as error:
            problem = str(error)
        if problem:
            place.write_log(f"suite: {problem}")
            self._move(row, states.REJECTED, f"this choice of hardware cannot be run: {problem}")
            return
        self._move(row, states.QUEUED, f"suite {suite.name} v{suite.model.version}, sha256 {suite.sha256[:16]}")

    def _run(self, place: Place, stopped: Callable[[], bool]) -> None:
        row = place.row
        check = self.service.check(row)
        if check is None:
            raise OSError("check.json is gone")
        code, why = self._execute(place, stopped)
        if why:
            self._move(row, states.REJECTED, f"undecided: {why}")
            return
        if code not in USAGE_CODES:
            raise LinepressError(f"the run ended with exit code {code}; see the log")
        document = judging.judge(place, check, code)
        if not document["validated"]:
            place.write_log(f"verdict: rejected; {document['reason']}")
            self._move(row, states.REJECTED, document["reason"])
            return
        with self.service.db.read() as conn:
            granted = waivers.granted(conn, row["partner"])
        named = check["manifest"]["licence"]["waiver"]
        if named is not None and named not in granted:
            self._move(row, states.REJECTED, f"S12 FAIL: waiver {name_of(named)} was revoked before the verdict")
            return
        with self.service.db.write() as conn:
            files = submissions.files_of(conn, row["id"])
            try:
                names.claim(conn, self.service.now(), row["partner"], row["name"], names.content_of(files), row["id"])
            except RefusedError as refusal:
                submissions.move(conn, self.service.now(), row["id"], states.REJECTED, audit.SERVICE, refusal.text)
                return
            audit.note(conn, self.service.now(), audit.SERVICE, "certificate issued", row["id"])
            head = audit.head(conn)
        document["certificate"] = judging.certify(place, granted, head)
        self._validated(place, document)

    def _validated(self, place: Place, document: Row) -> None:
        row = place.row
        ratio, data_format = document["packed_ratio"], document["data_format"]
        with self.service.db.write() as conn:
            if ratio is not None:
                position, others = leaderboard.position(conn, row["suite"], data_format, ratio, row["id"])
                document["place"] = {"place": position, "of": others + 1}
            judging.write(place.path, document)
            submissions.move(
                conn,
                self.service.now(),
                row["id"],
                states.VALIDATED,
                audit.SERVICE,
                document["reason"],
                packed_ratio=ratio,
                data_format=data_format,
            )
        place.write_log(f"verdict: validated; {document['reason']}")

    def _execute(self, place: Place, stopped: Callable[[], bool]) -> tuple[int, str]:
        """``(exit code, why there is no verdict)`` of the run, in a process group that ends with this runner."""
        settings = self.service.settings
        self._end_leftover(place)
        temporary = Path(tempfile.mkdtemp(prefix="lprun-", dir="/tmp" if os.name == "posix" else None))
        shut = {
            "work": str(place.path),
            "temporary": str(temporary),
            "network": settings.ray_address is not None,
            "memory_bytes": settings.run_memory_bytes,
        }
        verb = ["run", "suite.yaml", "--out", "run", "--workers", str(settings.workers), "--no-mlflow", "--json"]
        verb += ["--ray-address", settings.ray_address] if settings.ray_address else []
        kept = {name: os.environ[name] for name in RUN_ENVIRONMENT if name in os.environ}
        own = {name: str(temporary) for name in ("HOME", "TMPDIR")}
        own["NUMBA_CACHE_DIR"] = str(temporary / "kernels")
        end_s = time.monotonic() + settings.run_timeout_s
        try:
            jail.copy_kernels(temporary / "kernels")
            with group.limited(settings.run_memory_bytes) as together:
                shut["group"] = None if together is None else str(together)
                command = [sys.executable, "-m", "linepress.intake.work.jail", str(os.getpid()), json.dumps(shut)]
                environment = {**kept, **own, "PYTHONSAFEPATH": "1", "NO_COLOR": "1"}
                ended = self._watch(place, [*command, *verb], environment, stopped, end_s)
                if group.overran(together):
                    return 0, f"the run took over {settings.run_memory_bytes} B of memory"
                return ended
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _watch(
        self, place: Place, command: list[str], environment: dict[str, str], stopped: Callable[[], bool], end_s: float
    ) -> tuple[int, str]:
        settings = self.service.settings
        with place.log.open("ab") as log, (place.path / "run.json").open("wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=place.path,
                env=environment,
                start_new_session=True,
            )
            birth = processes.birth_of(process.pid) or ""
            (place.path / "run.pid").write_text(f"{process.pid} {birth}", encoding="ascii")
            try:
                while process.poll() is None:
                    if stopped():
                        raise WorkStoppedError
                    if time.monotonic() > end_s:
                        return 0, f"the run took over {settings.run_timeout_s:g} s"
                    time.sleep(POLL_S / 2)
            finally:
                if process.poll() is None:
                    threading.Thread(target=process.wait, daemon=True).start()  # reaps it, so that it counts as gone
                    processes.stop_group(process.pid, birth)
        return process.returncode, ""

    def _end_leftover(self, place: Place) -> None:
        """A run that a killed runner left may still be closing its record; two must not write it."""
        try:
            pid, birth = (place.path / "run.pid").read_text(encoding="ascii").split()
        except (FileNotFoundError, ValueError):
            return
        processes.stop_group(int(pid), birth)

    def _attempt(self, row: Row) -> None:
        """Count a try before it begins, so that what kills the runner is not tried for ever."""
        if row["attempts"] >= self.service.settings.attempts:
            reason = f"undecided: {row['attempts']} tries broke off; tell the operator"
            self._move(row, states.REJECTED, reason)
            raise RefusedError(409, "state", reason)
        with self.service.db.write() as conn:
            submissions.note_values(conn, row["id"], {"attempts": row["attempts"] + 1})

    def _move(self, row: Row, to: str, reason: str, **values: Any) -> None:
        with self.service.db.write() as conn:
            submissions.move(conn, self.service.now(), row["id"], to, audit.SERVICE, reason, **values)

    def _broken(self, row: Row, error: Exception) -> None:
        """Our own trouble: written down, tried again after a pause, and a refusal in the end."""
        place = Place(self.service.settings, row)
        place.write_log(f"{row['state']}: {type(error).__name__}: {error}")
        try:
            with self.service.db.write() as conn:
                found = submissions.of_partner(conn, row["partner"], row["id"])
                if found["attempts"] >= self.service.settings.attempts:
                    reason = f"undecided: {type(error).__name__}: {error}; tell the operator"
                    submissions.move(conn, self.service.now(), row["id"], states.REJECTED, audit.SERVICE, reason)
                elif found["state"] == states.RUNNING:
                    reason = f"broke off: {type(error).__name__}: {error}"
                    submissions.move(conn, self.service.now(), row["id"], states.QUEUED, audit.SERVICE, reason)
                elif found["state"] == states.CHECKED:
                    submissions.note_values(conn, row["id"], {"attempts": found["attempts"] + 1})
                submissions.release(conn, row["id"], self.owner, self.service.now() + PAUSE_S)
        except RefusedError:
            self._release(row)

    def _stopped(self, row: Row, lost: bool) -> None:
        """The service ends: the try does not count, and the next service goes on. A lost lease is another's now."""
        if lost:
            return
        with self.service.db.write() as conn:
            found = submissions.of_partner(conn, row["partner"], row["id"])
            submissions.note_values(conn, row["id"], {"attempts": row["attempts"]})
            if found["state"] == states.RUNNING:
                reason = "the service was stopped; the run goes on from its record"
                submissions.move(conn, self.service.now(), row["id"], states.QUEUED, audit.SERVICE, reason)
            submissions.release(conn, row["id"], self.owner)

    def _release(self, row: Row) -> None:
        with self.service.db.write() as conn:
            submissions.release(conn, row["id"], self.owner)

    @contextmanager
    def _held(self, row: Row) -> Iterator[threading.Event]:
        """Renews the lease while the block runs; the event says that it was lost."""
        lost, done = threading.Event(), threading.Event()
        life_s = self.service.settings.lease_s

        def renew() -> None:
            while not done.wait(life_s / 10):
                try:
                    with self.service.db.write() as conn:
                        kept = submissions.renew(conn, self.service.now(), row["id"], self.owner, life_s)
                except SQLAlchemyError:
                    kept = False  # who cannot renew a lease must not rely on it
                if not kept:
                    lost.set()
                    return

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            done.set()
            thread.join()

    def _sweep(self) -> None:
        now_s = time.monotonic()
        if not self._swept_s or now_s - self._swept_s > SWEEP_EVERY_S:
            self._swept_s = now_s
            sweep(self.service)
