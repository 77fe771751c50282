"""Shards that change or vanish under a run, a full disk, and a clock that jumps.

Every test takes over 5 s: it starts real drivers against two real Ray nodes.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from linepress_kit.driver_kit import CASES, Drivers
from linepress_kit.faults import suite_text
from linepress_kit.records import stable_bytes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
TENSORS = 64


@pytest.fixture
def shard(drivers: Drivers) -> Path:
    """A safetensors file beside a suite that measures it."""
    rng = np.random.Generator(np.random.PCG64(3))
    path = drivers.folder / "shard.safetensors"
    save_file({f"t{i:02d}": rng.standard_normal(1 << 16, np.float32) for i in range(TENSORS)}, path)
    drivers.suite.write_text(suite_text("shards", "shard.safetensors", "[raw, window]"), encoding="utf-8")
    return path


def flip_last_bit(path: Path) -> None:
    """Change the last tensor in place, and leave size and modification time as they were."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_shard_changed_or_gone_under_the_run(drivers: Drivers, shard: Path) -> None:
    cases = 2 * TENSORS
    process = drivers.half_way()
    flip_last_bit(shard)  # its two cases come last
    code, document, err = drivers.finish(process)
    assert code == 2, err
    failed = document["counts"]["measure"]["failed"]
    in_flight = 2  # a case that was being measured at that moment cannot know that its own bytes are still the same
    assert 2 <= failed <= 2 + in_flight
    kinds = {failure["label"].split()[1]: failure["error_type"] for failure in document["failures"]}
    assert kinds.pop(f"t{TENSORS - 1}") == "ContentChangedError"
    assert set(kinds.values()) <= {"SourceError"}
    flip_last_bit(shard)
    code, document, err = drivers.run()
    assert code == 0, err
    assert (document["resumed"], document["done"]) == (cases - failed, failed)
    wanted = stable_bytes(drivers.folder / "run")

    (drivers.folder / "run").rename(drivers.folder / "first")
    process = drivers.half_way()
    away = shard.rename(shard.with_name("away"))
    code, document, err = drivers.finish(process)
    assert code == 2, err
    failed = document["counts"]["measure"]["failed"]
    assert 0 < failed < cases
    assert {failure["error_type"] for failure in document["failures"]} == {"SourceError"}
    away.rename(shard)
    code, document, err = drivers.run()
    assert code == 0, err
    assert document["done"] == failed
    drivers.check_whole(wanted, cases)


def test_another_content_is_another_case(drivers: Drivers, shard: Path) -> None:
    """Without a run in between: the hashes that planning remembers must not outlive the bytes."""
    from linepress.run.plan import make_plan
    from linepress.suite.model import load_suite

    suite = load_suite(str(drivers.suite))
    before = make_plan(suite)
    flip_last_bit(shard)
    after = make_plan(suite)
    assert [a == b for a, b in zip(before.contents, after.contents, strict=True)] == [True] * (TENSORS - 1) + [False]


def test_a_full_disk_keeps_what_was_written(drivers: Drivers, undisturbed: bytes) -> None:
    # Parts of a few dozen rows fit, the compacted table does not.
    code, document, err = drivers.run(faults=("file-limit=40000",))
    assert (code, document) == (2, None)
    last = err.strip().splitlines()[-1]
    assert "cannot be written (File too large); make room" in last
    assert "everything recorded so far is kept" in last
    assert "Traceback" not in err
    store = drivers.store
    store.verify()
    kept = len(store.statuses("measure"))
    assert 0 < kept <= CASES
    assert not list(store.path.rglob("*.tmp"))
    code, document, err = drivers.run()
    assert code == 0, err
    assert (document["resumed"], document["done"]) == (kept, CASES - kept)
    drivers.check_whole(undisturbed)


def test_a_clock_that_jumps_days_changes_nothing_and_is_noted(drivers: Drivers, undisturbed: bytes) -> None:
    code, document, err = drivers.run(faults=("clock=86400",))
    assert code == 0, err
    assert document["done"] == CASES
    drivers.check_whole(undisturbed)
    session = drivers.store.manifest["sessions"][0]
    assert 0 < session["seconds"] < 120
    assert any(abs(step_s) > 80_000 for step_s in session["clock_steps_s"])
    assert drivers.events("clock set")
