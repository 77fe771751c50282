"""Workers, nodes, drivers and heads that die under a run, and cases that kill or hang their workers.

Every test takes over 5 s: it starts a real driver against two real Ray nodes, and a node takes 10 s to come back.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from linepress_kit.driver_kit import CASES, Drivers
from linepress_kit.loopback import Loopback

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_a_worker_killed(nodes: Loopback, drivers: Drivers, undisturbed: bytes) -> None:
    process = drivers.half_way()
    killed: list[int] = []
    deadline_s = time.monotonic() + 20
    while not killed and time.monotonic() < deadline_s and process.poll() is None:
        killed = nodes.worker.workers() or nodes.head.workers()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
    code, document, err = drivers.finish(process)
    assert killed
    assert code == 0, err
    assert document["counts"]["measure"] == {"planned": CASES, "ok": CASES, "failed": 0, "skipped": 0}
    assert drivers.events("worker lost")
    drivers.check_whole(undisturbed)


def test_poison_and_hung_cases_fail_alone_and_the_same_command_mends_them(
    drivers: Drivers, undisturbed: bytes
) -> None:
    suite = drivers.suite.read_text(encoding="utf-8")
    drivers.suite.write_text(suite.replace("timeout_s: 60", "timeout_s: 10"), encoding="utf-8")
    code, document, err = drivers.run(faults=("poison=5", "hang=40"))
    assert code == 2, err
    failed = {failure["error_type"]: failure for failure in document["failures"]}
    assert set(failed) == {"WorkerCrashedError", "CaseTimeoutError"}
    assert document["counts"]["measure"] == {"planned": CASES, "ok": CASES - 2, "failed": 2, "skipped": 0}, document[
        "failures"
    ]
    assert failed["WorkerCrashedError"]["attempts"] == 3
    assert "3 times on this case alone" in failed["WorkerCrashedError"]["error"]
    assert "did not end within 10 s" in failed["CaseTimeoutError"]["error"]
    cases = {event["error_type"]: event["case_key"] for event in drivers.events("case")}
    assert len(cases["WorkerCrashedError"]) == 64
    code, document, err = drivers.run()
    assert code == 0, err
    assert (document["resumed"], document["done"]) == (CASES - 2, 2)
    drivers.check_whole(undisturbed)


def test_the_driver_killed(drivers: Drivers, undisturbed: bytes) -> None:
    process = drivers.half_way()
    process.kill()
    process.communicate()
    half = len(drivers.store.statuses("measure"))
    assert 0 < half < CASES
    code, document, err = drivers.run()
    assert code == 0, err
    assert (document["resumed"], document["done"]) == (half, CASES - half)
    drivers.check_whole(undisturbed)


def test_a_node_killed(nodes: Loopback, drivers: Drivers, undisturbed: bytes) -> None:
    process = drivers.half_way()
    deadline_s = time.monotonic() + 20
    while not nodes.worker.workers() and time.monotonic() < deadline_s and process.poll() is None:
        time.sleep(0.01)
    nodes.worker.kill()
    code, document, err = drivers.finish(process)
    assert code == 0, err
    assert document["done"] == CASES
    lost = {event["error"] for event in drivers.events("worker lost")}
    assert lost  # else the node had no case, and this run shows nothing
    assert lost <= {"NodeDiedError", "WorkerCrashedError"}
    drivers.check_whole(undisturbed)


def test_the_head_restarted_and_the_run_goes_on(loopback: Loopback, drivers: Drivers, undisturbed: bytes) -> None:
    process = drivers.half_way()
    loopback.head.kill()
    loopback.ensure(worker=False)
    code, document, err = drivers.finish(process, 120)
    assert code == 0, err
    assert "head at 127.0.0.2" in err
    assert "joined Ray at 127.0.0.2" in err
    assert document["done"] == CASES
    assert len(drivers.events("head lost")) == 1
    drivers.check_whole(undisturbed)


def test_the_head_gone_for_good_is_one_sentence_and_the_same_command_goes_on(
    loopback: Loopback, drivers: Drivers, undisturbed: bytes
) -> None:
    drivers.variables["LINEPRESS_HEAD_WAIT_S"] = "1"
    process = drivers.half_way()
    loopback.head.kill()
    code, document, err = drivers.finish(process, 60)
    assert (code, document) == (2, None)
    last = err.strip().splitlines()[-1]
    assert last.startswith("linepress: Ray's head at 127.0.0.2")
    assert last.endswith("what was measured is recorded, give the same command again")
    half = len(drivers.store.statuses("measure"))
    assert half > 0
    drivers.address = "local"  # any Ray will do; one on this machine is up sooner than two nodes
    code, document, err = drivers.run()
    assert code == 0, err
    assert (document["resumed"], document["done"]) == (half, CASES - half)
    drivers.check_whole(undisturbed)
