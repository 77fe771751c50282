"""The runner and the sweep: refusals, broken tries, lost runners, deletions, retention, hub references."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linepress.errors import LinepressError
from linepress.intake.http.answers import RefusedError
from linepress.intake.http.forms import NewSubmission
from linepress.intake.service import Service
from linepress.intake.settings import Settings
from linepress.intake.store import partners, states, submissions
from linepress.intake.store.audit import SERVICE, Actor
from linepress.intake.store.partners import Caller
from linepress.intake.store.retention import sweep
from linepress.intake.store.uploads import part_path
from linepress.intake.work import processes
from linepress.intake.work.places import Place
from linepress.intake.work.runner import PAUSE_S, Runner
from linepress.submission.fixtures import TERMS, model_files
from linepress.submission.pack import pack
from linepress_kit.hub_server import Fault, HubServer, Repo, commit_of

ACTOR = Actor("acme", "token")


@pytest.fixture
def caller(service: Service) -> Caller:
    with service.db.write() as conn:
        partners.add_partner(conn, service.now(), "acme", "a@b.example", quota_bytes=1 << 30)
    return Caller("acme", "token", ("submit", "read", "delete"), 1 << 30)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission that passes every rule."""
    base = tmp_path_factory.mktemp("packed")
    model = base / "tiny"
    model.mkdir()
    for name, data in model_files().items():
        (model / name).write_bytes(data)
    return pack(model, "acme", base / "out", TERMS).folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def received(
    service: Service, caller: Caller, files: dict[str, bytes], hashes: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    """A submission whose bytes are all here."""
    row = declared(service, caller, files, hashes, **more)
    with service.db.write() as conn:
        for file in submissions.files_of(conn, row["id"]):
            if not file["from_hub"]:
                path = part_path(service.settings, row["id"], file["number"])
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(files[file["path"]])
        conn.exec_driver_sql("UPDATE files SET offset = bytes WHERE from_hub = 0")
    return service.complete(caller, ACTOR, row["id"])


def queued(service: Service, caller: Caller, files: dict[str, bytes]) -> tuple[dict[str, Any], Place]:
    """A submission that waits for its run, as checked."""
    row = received(service, caller, files)
    with service.db.write() as conn:
        for state in (states.CHECKED, states.QUEUED):
            submissions.move(conn, service.now(), row["id"], state, SERVICE)
    place = Place(service.settings, row)
    place.path.mkdir(exist_ok=True)
    (place.path / "check.json").write_text('{"manifest": {}}', encoding="utf-8")
    return row, place


def declared(
    service: Service, caller: Caller, files: dict[str, bytes], hashes: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    body = {
        "name": "tiny",
        "files": [
            {
                "path": path,
                "bytes": len(data),
                "sha256": (hashes or {}).get(path, hashlib.sha256(data).hexdigest()),
            }
            for path, data in sorted(files.items())
        ],
        **more,
    }
    return service.create(caller, ACTOR, NewSubmission.model_validate(body), None)[0]


def now(service: Service, caller: Caller, row: dict[str, Any]) -> dict[str, Any]:
    with service.db.read() as conn:
        return submissions.of_partner(conn, caller.partner, row["id"])


def test_what_passes_every_rule_is_checked_and_queued(service: Service, caller: Caller, packed: Path) -> None:
    row = received(service, caller, contents(packed), memories=["hbm3"])
    runner = Runner(service)
    assert runner.step()
    assert now(service, caller, row)["state"] == states.CHECKED, now(service, caller, row)["reason"]
    assert runner.step()
    queued = now(service, caller, row)
    assert queued["state"] == states.QUEUED, queued["reason"]
    suite = json.loads((service.settings.work / row["id"] / "suite.yaml").read_text(encoding="utf-8"))
    assert [gate["name"] for gate in suite["gates"]] == ["lossless"]
    assert suite["channel"]["memories"] == ["hbm3"]  # the partner's choice, not the suite's
    assert {source["uri"].split("/")[:3][-1] for source in suite["sources"]} == {"tiny"}
    assert not any(source["uri"].startswith("/") for source in suite["sources"])


@pytest.mark.threat("a suite other than the manifest asks for")
def test_another_suite_than_the_manifest_asks_for_is_refused_in_one_sentence(
    service: Service, caller: Caller, packed: Path
) -> None:
    service.offers.suites["other"] = load(service, "{name: other, version: 1, codecs: [raw], sources: [{uri: x}]}")
    row = received(service, caller, contents(packed), suite="other")
    assert Runner(service).step()
    refused = now(service, caller, row)
    assert refused["state"] == states.REJECTED
    assert "the manifest asks for suite 'smoke' and the declaration for 'other'" in refused["reason"]
    assert "\n" not in refused["reason"]


def test_a_breach_rejects_with_the_rule(service: Service, caller: Caller, packed: Path) -> None:
    files = {**contents(packed), "evil.safetensors": b"\x80\x04pickle"}
    row = received(service, caller, files)
    assert Runner(service).step()
    rejected = now(service, caller, row)
    assert rejected["state"] == states.REJECTED
    check = service.check(rejected)
    assert check is not None
    failed = {finding["rule"] for finding in check["findings"] if finding["verdict"] == "FAIL"}
    assert {"S02", "S03"} <= failed
    assert "S02 FAIL" in rejected["reason"]


@pytest.mark.threat("other bytes than were declared")
def test_bytes_that_are_not_the_declared_ones_are_rejected(service: Service, caller: Caller, packed: Path) -> None:
    row = received(service, caller, contents(packed), {"config.json": "0" * 64})
    assert Runner(service).step()
    rejected = now(service, caller, row)
    assert (rejected["state"], "declared" in rejected["reason"]) == (states.REJECTED, True)


@pytest.mark.threat("two partners with one name")
def test_a_manifest_of_another_partner_is_rejected(service: Service, packed: Path) -> None:
    with service.db.write() as conn:
        partners.add_partner(conn, service.now(), "rival", "r@b.example")
    rival = Caller("rival", "token", ("submit",), 1 << 30)
    row = received(service, rival, contents(packed))
    assert Runner(service).step()
    check = service.check(now(service, rival, row))
    assert check is not None
    assert next(f["verdict"] for f in check["findings"] if f["rule"] == "S16") == "FAIL"


def test_hardware_that_cannot_be_run_is_said_before_the_run(service: Service, caller: Caller, packed: Path) -> None:
    row = received(service, caller, contents(packed))
    service.offers.suites["smoke"] = load(service, "{name: smoke, version: 1, codecs: [raw], sources: [{uri: x}]}")
    with service.db.write() as conn:
        submissions.note_values(conn, row["id"], {"memories": '["hbm3"]'})
    runner = Runner(service)
    assert runner.step()
    assert runner.step()
    rejected = now(service, caller, row)
    assert rejected["state"] == states.REJECTED
    assert "no channel stage" in rejected["reason"]


def load(service: Service, text: str) -> Any:
    from linepress.suite.model import load_suite

    path = service.settings.data / "other.yaml"
    path.write_text(text, encoding="utf-8")
    return load_suite(str(path))


def test_a_try_that_breaks_is_repeated_after_a_pause_and_refused_in_the_end(
    service: Service, caller: Caller, packed: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = received(service, caller, contents(packed))

    def broken(*_: object, **__: object) -> None:
        raise LinepressError("the sandbox is on fire")

    monkeypatch.setattr("linepress.intake.work.runner.check_submission", broken)
    runner = Runner(service)
    for attempt in range(1, service.settings.attempts + 1):
        assert runner.step()
        assert now(service, caller, row)["attempts"] == attempt
        assert not runner.step()  # nobody touches it during the pause
        clock.now += PAUSE_S + 1
    rejected = now(service, caller, row)
    assert rejected["state"] == states.REJECTED
    assert rejected["reason"].startswith("undecided")
    assert "on fire" in (service.settings.work / row["id"] / "log.txt").read_text(encoding="utf-8")


def test_a_check_that_gives_no_verdict_is_tried_again_and_never_passes(
    service: Service, caller: Caller, packed: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from linepress.submission.box import sandbox
    from linepress.submission.submit import check_submission

    def dead(request: dict[str, Any], timeout_s: float) -> sandbox.Answer:
        return sandbox.Answer(None, "it was killed")

    row = received(service, caller, contents(packed))
    monkeypatch.setattr(
        "linepress.intake.work.runner.check_submission",
        lambda *arguments, **options: check_submission(*arguments, **options, ask=dead),
    )
    runner = Runner(service)
    assert runner.step()
    assert now(service, caller, row)["state"] == states.RECEIVED
    for _ in range(service.settings.attempts):
        clock.now += PAUSE_S + 1
        runner.step()
    rejected = now(service, caller, row)
    assert (rejected["state"], rejected["reason"].startswith("undecided")) == (states.REJECTED, True)


@pytest.mark.threat("a submission that never ends")
def test_what_kills_its_runner_is_not_tried_for_ever(
    service: Service, caller: Caller, packed: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = received(service, caller, contents(packed))

    class Death(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Death

    monkeypatch.setattr("linepress.intake.work.runner.check_submission", die)
    for _ in range(service.settings.attempts):
        with pytest.raises(Death):
            Runner(service).step()
        clock.now += service.settings.lease_s + 1
    assert Runner(service).step()
    assert now(service, caller, row)["state"] == states.REJECTED


def to_running(service: Service, row: dict[str, Any]) -> None:
    with service.db.write() as conn:
        for state in (states.CHECKED, states.QUEUED, states.RUNNING):
            submissions.move(conn, service.now(), row["id"], state, SERVICE)


def test_a_run_whose_runner_was_lost_goes_back_to_the_queue(
    service: Service, caller: Caller, packed: Path, clock: Any
) -> None:
    row = received(service, caller, contents(packed))
    to_running(service, row)
    with service.db.write() as conn:
        assert submissions.lease(conn, clock(), "other-host:1:1", 60) is not None
    assert not Runner(service).step()  # somebody else may still be at it
    clock.now += 61
    assert Runner(service).step()
    found = now(service, caller, row)
    assert (found["state"], found["lease_owner"]) == (states.QUEUED, None)


def test_a_dead_runner_of_this_machine_is_known_to_be_dead(service: Service, caller: Caller, packed: Path) -> None:
    row = received(service, caller, contents(packed))
    to_running(service, row)
    host, pid, birth = processes.identity().rsplit(":", 2)
    with service.db.write() as conn:
        assert submissions.lease(conn, service.now(), f"{host}:{pid}:{int(birth) - 1}", 60) is not None
    assert not processes.is_dead(processes.identity())
    assert Runner(service).step()  # at once: no lease has to run out
    assert now(service, caller, row)["state"] == states.QUEUED


@pytest.mark.threat("a submission that never ends")
def test_a_run_past_its_time_is_ended_and_undecided(
    tmp_path: Path, clock: Any, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(Settings(data=tmp_path / "data", run_timeout_s=0.5), clock)
    with service.db.write() as conn:
        partners.add_partner(conn, clock(), "acme", "a@b.example")
    acme = Caller("acme", "token", (), 1 << 30)
    row, place = queued(service, acme, contents(packed))
    monkeypatch.setattr("linepress.intake.work.runner.sys.executable", _program(tmp_path))
    assert Runner(service).step()
    found = now(service, acme, row)
    assert (found["state"], "took over 0.5 s" in found["reason"]) == (states.REJECTED, True)
    pid, birth = (place.path / "run.pid").read_text(encoding="ascii").split()
    assert processes.birth_of(int(pid)) != birth
    service.close()


def test_a_service_that_stops_ends_its_run_and_does_not_count_the_try(
    service: Service, caller: Caller, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, place = queued(service, caller, contents(packed))
    monkeypatch.setattr("linepress.intake.work.runner.sys.executable", _program(tmp_path))
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    assert Runner(service).step(stop)
    found = now(service, caller, row)
    assert (found["state"], found["attempts"], found["lease_owner"]) == (states.QUEUED, 0, None)
    pid, birth = (place.path / "run.pid").read_text(encoding="ascii").split()
    assert processes.birth_of(int(pid)) != birth


@pytest.mark.threat("a run that takes all memory")
def test_a_run_over_its_memory_is_undecided(
    service: Service, caller: Caller, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, _ = queued(service, caller, contents(packed))

    @contextlib.contextmanager
    def limited(memory_bytes: int) -> Iterator[Path]:
        yield tmp_path / str(memory_bytes)

    monkeypatch.setattr("linepress.intake.work.runner.group.limited", limited)
    monkeypatch.setattr("linepress.intake.work.runner.group.overran", lambda together: together is not None)
    asked = f'echo "$@" > {tmp_path}/asked; kill -9 $$'
    monkeypatch.setattr("linepress.intake.work.runner.sys.executable", _program(tmp_path, asked))
    assert Runner(service).step()
    found = now(service, caller, row)
    most = service.settings.run_memory_bytes
    assert (found["state"], found["reason"]) == (
        states.REJECTED,
        f"undecided: the run took over {most} B of memory",
    )
    assert f'"group": "{tmp_path}/{most}"' in (tmp_path / "asked").read_text(encoding="utf-8")


def _program(folder: Path, line: str = "exec sleep 60") -> str:
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{line}\n", encoding="ascii")
    program.chmod(0o755)
    return str(program)


def test_a_submission_deleted_while_it_is_worked_on_stays_deleted(
    service: Service, caller: Caller, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = received(service, caller, contents(packed))
    from linepress.submission.submit import check_submission

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        service.withdraw(caller, ACTOR, row["id"])
        return check_submission(*arguments, **options)

    monkeypatch.setattr("linepress.intake.work.runner.check_submission", meanwhile)
    assert Runner(service).step()
    assert now(service, caller, row)["state"] == states.WITHDRAWN
    sweep(service)
    assert not (service.settings.work / row["id"]).exists()
    assert not (service.settings.uploads / row["id"]).exists()


def test_retention(service: Service, caller: Caller, packed: Path, clock: Any) -> None:
    row = received(service, caller, {**contents(packed), "x.pkl": b"\x80\x04."})
    assert Runner(service).step()
    place = Place(service.settings, now(service, caller, row))
    assert sweep(service)["files"] == 0
    clock.now += service.settings.keep_files_s + 1
    assert sweep(service)["files"] == 1
    assert not (place.path / "in").exists()
    assert place.log.exists()
    with service.db.read() as conn:
        assert submissions.usage(conn, "acme") == (0, 0)
    clock.now += service.settings.keep_results_s
    sweep(service)
    assert not place.path.exists()
    assert now(service, caller, row)["state"] == states.WITHDRAWN
    assert sweep(service) == {"abandoned": 0, "files": 0, "results": 0, "strays": 0}


@pytest.mark.threat("a submission that never ends")
def test_an_upload_that_never_ends_is_given_up(service: Service, caller: Caller, clock: Any) -> None:
    row = declared(service, caller, {"manifest.yaml": b"x"})
    clock.now += service.settings.abandon_s - 1
    assert sweep(service)["abandoned"] == 0
    clock.now += 2
    assert sweep(service)["abandoned"] == 1
    assert now(service, caller, row)["state"] == states.WITHDRAWN


@pytest.fixture
def hub(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, HubServer]]:
    files = {path: data for path, data in contents(packed).items() if path != "manifest.yaml"}
    server = HubServer({"acme/tiny": Repo(files)})
    with server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield commit_of(files), server


def test_a_hub_reference_is_fetched_and_checked(
    service: Service, caller: Caller, packed: Path, hub: tuple[str, HubServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, server = hub
    monkeypatch.setenv("HF_TOKEN", "hf_ours_alone")
    row = received(service, caller, contents(packed), hub={"uri": "hf://acme/tiny", "revision": commit})
    assert Runner(service).step()
    found = now(service, caller, row)
    assert found["state"] == states.CHECKED, found["reason"]
    assert server.requests
    assert not any("hf_ours_alone" in str(request) for request in server.requests)  # a partner gets no access of ours


def test_a_hub_file_that_is_not_the_declared_one_is_rejected(
    service: Service, caller: Caller, packed: Path, hub: tuple[str, HubServer]
) -> None:
    commit, _ = hub
    files = contents(packed)
    row = received(
        service, caller, files, {"config.json": "0" * 64}, hub={"uri": "hf://acme/tiny", "revision": commit}
    )
    assert Runner(service).step()
    found = now(service, caller, row)
    assert (found["state"], "another sha256" in found["reason"]) == (states.REJECTED, True)


def test_a_hub_that_sends_more_than_declared_is_cut(
    service: Service, caller: Caller, packed: Path, hub: tuple[str, HubServer]
) -> None:
    commit, _ = hub
    files = {**contents(packed), "config.json": b"{}"}
    row = received(service, caller, files, hub={"uri": "hf://acme/tiny", "revision": commit})
    assert Runner(service).step()
    found = now(service, caller, row)
    assert found["state"] == states.REJECTED
    assert "hub reference" in found["reason"]


@contextlib.contextmanager
def working(service: Service) -> Iterator[None]:
    """A runner at work beside the test."""
    stop = threading.Event()
    thread = threading.Thread(target=Runner(service).run_forever, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        assert not thread.is_alive(), "a hub that drips keeps the runner from ending"


def wait_for(state: str, service: Service, caller: Caller, row: dict[str, Any], within_s: float) -> dict[str, Any]:
    end_s = time.monotonic() + within_s
    while (found := now(service, caller, row))["state"] != state:
        assert time.monotonic() < end_s, f"{found['state']}: {found['reason']}"
        time.sleep(0.05)
    return found


@pytest.fixture
def dripping(hub: tuple[str, HubServer]) -> tuple[str, HubServer]:
    """The stand-in, but at a byte a second."""
    commit, server = hub
    server.faults.append(Fault("", "drip", 1000))
    return commit, server


@pytest.mark.threat("a hub that drips, a delete meanwhile, two runners")
def test_a_hub_that_drips_holds_up_nobody_and_a_delete_frees_it(
    service: Service, caller: Caller, packed: Path, dripping: tuple[str, HubServer]
) -> None:
    commit, server = dripping
    with service.db.write() as conn:
        partners.add_partner(conn, service.now(), "other", "o@b.example", quota_bytes=1 << 30)
    other = Caller("other", "token", ("submit", "read", "delete"), 1 << 30)
    slow = [
        received(
            service, caller, contents(packed), name=f"slow-{n}", hub={"uri": "hf://acme/tiny", "revision": commit}
        )
        for n in range(2)
    ]
    files = contents(packed)
    files["manifest.yaml"] = files["manifest.yaml"].replace(b'submitter: "acme"', b'submitter: "other"')
    with working(service):
        end_s = time.monotonic() + 8
        while not server.requests:
            assert time.monotonic() < end_s
            time.sleep(0.05)
        quick = received(service, other, files)
        end_s = time.monotonic() + 8
        while now(service, other, quick)["state"] == states.RECEIVED:
            assert time.monotonic() < end_s, "the other partner waits for the hub"
            time.sleep(0.05)
        service.withdraw(other, ACTOR, quick["id"])
        for row in slow:
            assert now(service, caller, row)["state"] == states.RECEIVED
            service.withdraw(caller, ACTOR, row["id"])
        asked = len(server.requests)
        end_s = time.monotonic() + 12
        while any((service.settings.uploads / row["id"]).exists() for row in slow):
            sweep(service)
            assert time.monotonic() < end_s, "what was deleted is still being fetched"
            time.sleep(0.1)
        assert len(server.requests) <= asked + 1


@pytest.mark.threat("a hub that drips, a delete meanwhile, two runners")
def test_a_hub_below_the_least_rate_is_given_up(
    service: Service, caller: Caller, packed: Path, dripping: tuple[str, HubServer]
) -> None:
    commit, _ = dripping
    object.__setattr__(service, "settings", service.settings.model_copy(update={"hub_grace_s": 2.0}))
    row = received(service, caller, contents(packed), hub={"uri": "hf://acme/tiny", "revision": commit})
    start_s = time.monotonic()
    assert Runner(service).step()
    found = now(service, caller, row)
    assert (found["state"], "too slow" in found["reason"]) == (states.REJECTED, True)
    assert time.monotonic() - start_s < 8


@pytest.mark.threat("a hub that drips, a delete meanwhile, two runners")
def test_partners_take_turns(service: Service, caller: Caller) -> None:
    with service.db.write() as conn:
        partners.add_partner(conn, service.now(), "late", "l@b.example", quota_bytes=1 << 30)
    late = Caller("late", "token", ("submit",), 1 << 30)
    for number in range(4):
        received(service, caller, {"manifest.yaml": b"x"}, name=f"n{number}")
    received(service, late, {"manifest.yaml": b"x"}, name="one")
    turns: dict[str, int] = {}
    order = []
    for turn in range(3):
        with service.db.write() as conn:
            row = submissions.lease(conn, service.now(), "me", 60, (), turns)
        assert row is not None
        turns[row["partner"]] = turn + 1
        order.append(row["partner"])
    assert order == ["acme", "late", "acme"]


@pytest.mark.threat("a hub that drips, a delete meanwhile, two runners")
def test_one_runner_a_folder_by_a_lock_that_dies_with_its_holder(tmp_path: Path) -> None:
    mine = processes.RunnerLock(tmp_path)
    assert not mine.is_held()
    code = (
        "import sys, time; from pathlib import Path; from linepress.intake.work.processes import RunnerLock\n"
        "print(RunnerLock(Path(sys.argv[1])).take(), flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert mine.is_held()
        assert not mine.take()
    finally:
        holder.kill()
        holder.wait()
    assert mine.take()
    mine.give_back()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.sampled_from(sorted(states.MEANING)), max_size=8))
def test_only_allowed_steps_happen_and_each_is_journalled(service: Service, moves: list[str]) -> None:
    acme = Caller("acme", "token", (), 1 << 40)
    with service.db.write() as conn:
        if not partners.count_partners(conn):
            partners.add_partner(conn, service.now(), "acme", "a@b.example")
    row = declared(service, acme, {"manifest.yaml": b"x"})
    expected = [states.UPLOADING]
    for state in moves:
        may = states.allowed(expected[-1], state)
        judged = contextlib.nullcontext() if may else pytest.raises(RefusedError, match="cannot become")
        with judged, service.db.write() as conn:
            submissions.move(conn, service.now(), row["id"], state, SERVICE)
        expected += [state] * may
    with service.db.read() as conn:
        steps = submissions.journal(conn, row["id"])
        assert submissions.of_partner(conn, "acme", row["id"])["state"] == expected[-1]
    assert [step["to_state"] for step in steps] == expected
    assert [step["from_state"] for step in steps] == [None, *expected[:-1]]


def test_two_runners_never_hold_one_submission(service: Service, caller: Caller) -> None:
    rows = [received(service, caller, {"manifest.yaml": b"x"}) for _ in range(12)]
    taken: list[str] = []

    def take(owner: str) -> None:
        while True:
            with service.db.write() as conn:
                row = submissions.lease(conn, service.now(), owner, 60)
            if row is None:
                return
            taken.append(row["id"])

    threads = [threading.Thread(target=take, args=(f"other:{i}:1",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(row["id"] for row in rows)


def test_an_orphan_ends_with_its_parent(tmp_path: Path) -> None:
    """A child started through `child` gets SIGTERM when the process that started it is killed."""
    import os
    import signal
    import subprocess
    import sys

    script = (
        "import os, subprocess, sys, time\n"
        "code = 'import sys, os, time; from linepress.intake.work.processes import tie_to; tie_to(int(sys.argv[1])); "
        "print(os.getpid(), flush=True); time.sleep(60)'\n"
        "subprocess.Popen([sys.executable, '-c', code, str(os.getpid())])\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        birth = processes.birth_of(child)
        assert birth is not None
        os.kill(parent.pid, signal.SIGKILL)
        end_s = time.monotonic() + 10
        while processes.birth_of(child) == birth and time.monotonic() < end_s:
            time.sleep(0.05)
        assert processes.birth_of(child) != birth
