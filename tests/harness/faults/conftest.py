"""Two real Ray nodes for all fault tests, brought back after each one, and real drivers against them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from linepress_kit.driver_kit import CASES, SOURCE, Drivers
from linepress_kit.faults import suite_text
from linepress_kit.loopback import Loopback
from linepress_kit.records import stable_bytes


@pytest.fixture(scope="session")
def loopback() -> Iterator[Loopback]:
    with Loopback() as nodes:
        yield nodes


@pytest.fixture
def nodes(loopback: Loopback) -> Loopback:
    loopback.ensure()
    return loopback


@pytest.fixture
def drivers(loopback: Loopback, tmp_path: Path) -> Iterator[Drivers]:
    """Against the head, and the worker node where a test asks for `nodes` or none has killed it yet."""
    loopback.ensure(worker=False)
    suite = tmp_path / "suite.yaml"
    suite.write_text(suite_text("faults", SOURCE), encoding="utf-8")
    made = Drivers(tmp_path, loopback.address, suite)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def undisturbed(loopback: Loopback, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Bytes of the run that nothing happened to."""
    loopback.ensure()
    folder = tmp_path_factory.mktemp("undisturbed")
    suite = folder / "suite.yaml"
    suite.write_text(suite_text("faults", SOURCE), encoding="utf-8")
    code, document, err = Drivers(folder, loopback.address, suite).run()
    assert code == 0, err
    assert document["counts"]["measure"]["ok"] == CASES
    return stable_bytes(folder / "run")
