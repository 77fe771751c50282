"""One running service (without a runner) for the tests of the HTTP interface, and services in this process."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from linepress.intake.service import Service
from linepress.intake.settings import Settings
from linepress_kit.intake_server import IntakeServer

_NAMES = (f"partner-{number}" for number in itertools.count(1))


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IntakeServer]:
    with IntakeServer(
        tmp_path_factory.mktemp("intake") / "data", ("--no-runner", "--set", "idle_s=2", "--set", "busy_s=0.5")
    ) as running:
        yield running


@pytest.fixture
def partner(server: IntakeServer) -> Callable[..., tuple[str, str]]:
    """Adds a partner to `server`: ``(name, token)``."""

    def add(**options: Any) -> tuple[str, str]:
        name = next(_NAMES)
        return name, server.add_partner(name, **options)

    return add


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service(tmp_path: Path, clock: Clock) -> Iterator[Service]:
    made = Service(Settings(data=tmp_path / "data"), clock)
    yield made
    made.close()


@pytest.fixture
def declare() -> Callable[..., dict[str, Any]]:
    """The body of a declaration for named contents."""

    def body(files: dict[str, bytes], name: str = "tiny", **more: Any) -> dict[str, Any]:
        declared = [
            {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for path, data in files.items()
        ]
        return {"name": name, "files": declared, **more}

    return body
