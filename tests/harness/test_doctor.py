"""``linepress doctor``: each check has a machine on which it is well and one on which it is not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from linepress.cli import doctor
from linepress.cli.doctor import command
from linepress.errors import EXIT_GATE_FAILED, EXIT_OK


class _Server(BaseHTTPRequestHandler):
    date = ""

    def do_HEAD(self) -> None:
        self.send_response_only(405 if self.path != "/health" else 200)
        self.send_header("Date", self.date or self.date_time_string())
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def server() -> Iterator[str]:
    http = HTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    _Server.date = ""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "MLFLOW_TRACKING_URI",
        "RAY_ADDRESS",
        "NUMBA_DISABLE_JIT",
        "NUMBA_CACHE_DIR",
    ):
        monkeypatch.delenv(name, raising=False)


def test_every_check_answers_and_says_what_to_do_unless_it_is_well(tmp_path: Path) -> None:
    findings = doctor.examine(tmp_path, offline=True)
    assert [f.check for f in findings] == (
        ["python", "cores", "governor", "memory", "numba", "ray", "mlflow", "disk", "clock"]
    )
    for f in findings:
        assert f.found
        assert bool(f.advice) == (f.state != "ok"), f


def test_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.environment, "usable_cores", lambda: 8)
    file = tmp_path / "meminfo"
    for free_kB, state in ((40_000_000, "ok"), (5_000_000, "warn"), (1_000_000, "fail")):
        file.write_text(f"MemTotal: 64000000 kB\nMemAvailable: {free_kB} kB\n", encoding="utf-8")
        assert doctor.memory(file).state == state
    assert "--workers 5" in _advice(file, 5_000_000)
    file.write_text("nonsense", encoding="utf-8")
    assert doctor.memory(file).state == "warn"


def _advice(file: Path, free_kB: int) -> str:
    file.write_text(f"MemAvailable: {free_kB} kB\n", encoding="utf-8")
    return doctor.memory(file).advice


def test_governor(tmp_path: Path) -> None:
    assert doctor.governor(tmp_path).state == "ok"
    folder = tmp_path / "cpu0" / "cpufreq"
    folder.mkdir(parents=True)
    for name, state in (("performance\n", "ok"), ("powersave\n", "warn")):
        (folder / "scaling_governor").write_text(name, encoding="utf-8")
        assert doctor.governor(tmp_path).state == state


def test_disk_that_cannot_be_written_stands_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.disk(tmp_path / "not" / "yet" / "there").state in ("ok", "warn")
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert doctor.disk(tmp_path).state == "fail"


def test_disk_that_is_nearly_full_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "MIN_DISK_BYTES", 10**18)
    assert doctor.disk(tmp_path).state == "warn"


def test_numba_without_compilation_stands_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.numba_threads().state == "ok"
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert doctor.numba_threads().state == "fail"


def test_a_stale_ray_address_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.ray().state == "ok"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert doctor.ray().state == "warn"


def test_mlflow_server_there_and_away(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.mlflow().state == "ok"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    assert doctor.mlflow().state == "ok"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = doctor.mlflow()
    assert found.state == "warn"
    assert "linepress sync" in found.advice


def test_hub_there_away_and_offline(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server)
    assert doctor.hub().state == "ok"
    _Server.date = "Thu, 01 Jan 2015 00:00:00 GMT"
    assert "off" in doctor.hub().found
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert doctor.hub().state == "warn"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "offline" in doctor.hub().found


def test_clock_that_was_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.clock().state == "ok"
    monkeypatch.setattr(doctor.time, "time", lambda: 3600.0)
    assert doctor.clock().state == "warn"


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--offline", "--runs", str(tmp_path)]
    result = CliRunner().invoke(command, [*arguments, "--json"], standalone_mode=False)
    assert result.return_value == EXIT_OK
    assert {f["state"] for f in json.loads(result.stdout)} <= {"ok", "warn"}
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.return_value == EXIT_GATE_FAILED
    assert "fail" in result.stdout
