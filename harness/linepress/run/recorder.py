"""The driver's pen: rows gathered into parts, written every few seconds, counts and failures kept beside them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from linepress.errors import RecordError
from linepress.records.files import RecordWriteError
from linepress.records.store import RunStore, label_of
from linepress.run.interrupt import uninterrupted

PART_ROWS = 500
PART_EVERY_S = (0.25, 5.0)
PART_SHARE = 0.05
"""A part is due after this share of the time since the start, within the limits above: a kill of the driver loses
little of a short run, and a long one does not end in a hundred thousand files."""


class Recorder:
    """Buffers rows by table and writes them as parts; as a context it leaves nothing unwritten."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self._rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        self._start_s = self._last_s = time.monotonic()
        self._broken = False

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._broken:
            self.flush()

    def add(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of one case; all of them or none get into the record."""
        self._rows[table].extend(rows)
        for row in rows:
            if row.get("status") == "failed":
                self._note_failure(table, row)
        if sum(map(len, self._rows.values())) >= PART_ROWS:
            self.flush()
        self.tick()

    def tick(self) -> None:
        """Write what is buffered if it is due; called also while nothing ends, so that nothing waits for a result."""
        now_s = time.monotonic()
        due_s = min(max(PART_SHARE * (now_s - self._start_s), PART_EVERY_S[0]), PART_EVERY_S[1])
        if self._rows and now_s - self._last_s >= due_s:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered; raises `RecordWriteError` where the disk refuses."""
        try:
            with uninterrupted():
                for table, rows in self._rows.items():
                    self.store.append(table, rows)
                    self._rows[table] = []
        except RecordWriteError:
            self._broken = True
            raise
        self._rows.clear()
        self._last_s = time.monotonic()

    def _note_failure(self, table: str, row: Mapping[str, Any]) -> None:
        entry = {
            "stage": table,
            "case": label_of(table, row),
            "case_key": row.get("case_key"),
            "error_type": row.get("error_type"),
            "error": row.get("error"),
            "attempts": row.get("attempts"),
            "host": row.get("host"),
        }
        path = self.store.path / "failures.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            self._broken = True
            raise RecordWriteError(
                f"{path}: cannot be written ({error.strerror}); make room and give the same command again, "
                "everything recorded so far is kept"
            ) from error


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; raises `RecordError` while another one writes to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RecordWriteError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with --out"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RecordError(
                f"{folder}: another linepress is writing to this run; wait for it, or choose another folder with "
                "--out"
            ) from None
        yield
    finally:
        os.close(descriptor)
