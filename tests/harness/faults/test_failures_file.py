"""A disk that fills up at the moment a failure is noted in ``failures.jsonl``."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from linepress.records.files import RecordWriteError
from linepress.records.store import RunStore
from linepress.run.recorder import Recorder

FAILED = {"tensor": "t", "variant": "raw", "case_key": "k", "status": "failed", "error_type": "ValueError"}


def recorder(folder: Path) -> tuple[Recorder, list[Any]]:
    """A recorder, and the rows that reach its record."""
    written: list[Any] = []
    store = SimpleNamespace(path=folder, append=lambda table, rows: written.extend(rows))
    return Recorder(cast(RunStore, store)), written


def test_a_failure_is_one_line(tmp_path: Path) -> None:
    made, written = recorder(tmp_path)
    with made:
        made.add("measure", [FAILED, {**FAILED, "status": "ok"}])
    (line,) = (tmp_path / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["case_key"] == "k"
    assert len(written) == 2


def test_a_full_disk_is_one_sentence_and_nothing_more_is_written(tmp_path: Path) -> None:
    """On the kernel's own full device: the error comes as it would from a disk, when the line is flushed."""
    (tmp_path / "failures.jsonl").symlink_to("/dev/full")
    made, written = recorder(tmp_path)
    with (
        pytest.raises(
            RecordWriteError, match=r"failures\.jsonl: cannot be written \(No space left on device\); make"
        ),
        made,
    ):
        made.add("measure", [FAILED])
    assert written == []  # leaving the context does not try the disk again: the case is measured by the next command
