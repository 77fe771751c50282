"""The record: atomic parts, each case once whatever happened between two system calls, damage named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linepress.errors import EXIT_CASES_FAILED, RecordError
from linepress.records import SCHEMA_VERSION, TABLES, RunStore, schema
from linepress.records.columns import unit_of
from linepress.records.files import RecordWriteError, write_atomically
from linepress.records.store import to_table


def make(folder: Path) -> RunStore:
    return RunStore.create(folder / "run", {"run_id": "run", "suite": {"name": "s"}})


def row(key: str, status: str = "ok", **more: Any) -> dict[str, Any]:
    return {"case_key": key, "status": status, "row": 0, "variant": "raw", "tensor": f"t-{key}", **more}


def keys(store: RunStore, table: str = "measure") -> list[str]:
    return [str(key) for key in store.table(table, ["case_key"])["case_key"].to_pylist()]


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_a_sentence_and_the_version_travels(table: str) -> None:
    found = schema(table)
    assert found.metadata[b"linepress_schema_version"] == str(SCHEMA_VERSION).encode()
    assert len(set(found.names)) == len(found.names)
    for field in found:
        assert len(field.metadata[b"doc"]) > 5, field.name
        unit = unit_of(field.name)
        if unit and field.name not in ("kv_equals_weights_at_tokens",):
            assert field.metadata.get(b"unit") is not None, field.name


def test_rows_come_back_with_types_units_and_unknown_columns(tmp_path: Path) -> None:
    store = make(tmp_path)
    histogram = np.bincount([1, 1, 512], minlength=513)
    store.append("measure", [row("a", bits_histogram=histogram, payload_bits=np.int64(7), novelty=np.float64(2.5))])
    found = RunStore.open(store.path).rows("measure")[0]
    assert found["bits_histogram"] == histogram.tolist()
    assert (found["payload_bits"], found["run_id"]) == (7, "run")
    assert json.loads(found["extra"]) == {"novelty": 2.5}
    assert RunStore.open(store.path).table("measure").schema.field("encode_GBps").metadata[b"unit"] == b"GB/s"


def test_extra_survives_being_written_again(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.append("measure", [row("a", status="failed", novelty=1)])
    store.append("measure", store.rows("measure"))
    assert json.loads(store.rows("measure")[0]["extra"]) == {"novelty": 1}


def test_tables_read_with_plain_pyarrow_and_duckdb(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.append("measure", [row("a"), row("b")])
    assert pq.read_table(store.path / "tables" / "measure").num_rows == 2
    import duckdb

    query = f"select count(*) from '{store.path}/tables/measure/*.parquet'"
    assert duckdb.sql(query).fetchall() == [(2,)]


def test_a_later_part_supersedes_but_never_an_ok(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.append("measure", [row("a", "failed"), row("b")])
    store.append("measure", [row("a"), row("b", "failed"), row("c", "failed")])
    assert store.statuses("measure") == {"a": "ok", "b": "ok", "c": "failed"}
    assert sorted(keys(store)) == ["a", "b", "c"]


def test_counts_and_statuses_of_a_plan_agree_before_and_after_compaction(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.append("measure", [row("a", "failed"), row("b"), row("stale")])
    store.append("measure", [row("a"), row("c", "failed")])
    order = {"c": 0, "b": 1, "a": 2, "never": 3}
    for _ in range(2):
        known = store.statuses("measure", order)
        assert dict(known) == {"a": "ok", "b": "ok", "c": "failed"}
        assert (known.get("never"), known.get("stale"), len(known)) == (None, None, 3)
        assert store.counts("measure") == {"ok": 3, "failed": 1}
        assert [r["case_key"] for batch in store.batches("measure", ["case_key"]) for r in batch.to_pylist()]
        store.compact("measure", order)
    assert keys(store) == ["c", "b", "a", "stale"]
    store.append("measure", [row("c")])  # a part beyond the compacted ones
    assert store.counts("measure") == {"ok": 4}
    assert store.statuses("measure", order)["c"] == "ok"
    assert len(store.table("failures")) == 0


def test_cases_of_several_rows_stay_whole(tmp_path: Path) -> None:
    store = make(tmp_path)
    two = [{"case_key": "k", "status": "ok", "row": i, "workload": str(i)} for i in range(2)]
    store.append("channel", [{**two[0], "status": "failed"}])
    store.append("channel", two)
    store.append("channel", two)
    assert [r["workload"] for r in store.rows("channel")] == ["0", "1"]


def test_failures_are_those_not_mended(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.append("measure", [row("a", "failed", error="x"), row("b", "failed", error="y")])
    store.append("measure", [row("a")])
    failures = store.rows("failures")
    assert [(f["stage"], f["case_key"], f["error"]) for f in failures] == [("measure", "b", "y")]
    assert failures[0]["label"] == "raw  t-b"


def test_compaction_orders_drops_and_changes_nothing_twice(tmp_path: Path) -> None:
    store = make(tmp_path)
    for key in ("c", "a", "stale", "b"):
        store.append("measure", [row(key, "failed")])
        store.append("measure", [row(key)])
    order = {"a": 0, "b": 1, "c": 2}
    store.compact("measure", order)
    assert keys(store) == ["a", "b", "c", "stale"]
    store.compact("measure", order, drop_others=True)
    assert keys(store) == ["a", "b", "c"]
    before = {p: p.stat().st_mtime_ns for p in store.parts("measure")}
    assert len(before) == 1
    store.compact("measure", order, drop_others=True)
    assert {p: p.stat().st_mtime_ns for p in store.parts("measure")} == before
    store.verify()


def test_compaction_in_several_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linepress.records.store._COMPACT_ROWS", 3)
    store = make(tmp_path)
    names = [f"{i:02d}" for i in range(8)]
    for key in reversed(names):
        store.append("measure", [row(key)])
    store.compact("measure", {key: i for i, key in enumerate(names)}, drop_others=True)
    assert keys(store) == names
    assert len(store.parts("measure")) == 3
    again = [p.name for p in store.parts("measure")]
    store.compact("measure", {key: i for i, key in enumerate(names)}, drop_others=True)
    assert [p.name for p in store.parts("measure")] == again


def test_a_crash_within_compaction_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(tmp_path)
    for key in "ba":
        store.append("measure", [row(key)])

    def crash(parts: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_drop", crash)
    with pytest.raises(KeyboardInterrupt):
        store.compact("measure", {"a": 0, "b": 1})
    again = RunStore.open(store.path)
    assert len(again.parts("measure")) == 3
    assert sorted(keys(again)) == ["a", "b"]
    again.compact("measure", {"a": 0, "b": 1})
    assert keys(again) == ["a", "b"]
    assert len(again.parts("measure")) == 1


def test_replace_changes_nothing_when_nothing_changed(tmp_path: Path) -> None:
    store = make(tmp_path)
    rows = [{"case_key": "gate:g", "status": "ok", "gate": "g", "passed": True}]
    store.replace("gates", rows)
    name = store.parts("gates")[0].name
    store.replace("gates", rows)
    assert [p.name for p in store.parts("gates")] == [name]
    store.replace("gates", [{**rows[0], "passed": False}])
    assert [r["passed"] for r in store.rows("gates")] == [False]
    assert len(store.parts("gates")) == 1


def test_damage_is_named(tmp_path: Path) -> None:
    store = make(tmp_path)
    part = store.append("measure", [row("a")])
    assert part is not None
    store.save_manifest()
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(RecordError, match=r"part-000001.parquet: differs from what was written"):
        RunStore.open(store.path).verify()
    with pytest.raises(RecordError, match=r"part-000001.parquet: damaged part"):
        RunStore.open(store.path).table("measure")
    part.unlink()
    with pytest.raises(RecordError, match="is gone"):
        RunStore.open(store.path).verify()


def test_another_schema_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.manifest["schema_version"] = SCHEMA_VERSION + 1
    store.save_manifest()
    with pytest.raises(RecordError, match=r"schema version 2, this linepress reads version 1; run the suite again"):
        RunStore.open(store.path)


def test_folders_that_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such run folder"):
        RunStore.open(tmp_path / "none")
    with pytest.raises(RecordError, match=r"not a run folder"):
        RunStore.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RecordError, match="damaged"):
        RunStore.open(tmp_path)
    with pytest.raises(RecordError, match="no table 'nope'"):
        make(tmp_path).table("nope")


def test_a_value_of_another_type_names_the_column() -> None:
    with pytest.raises(RecordError, match="column lines"):
        to_table("measure", [row("a", lines="many")], "run")


def test_empty_tables_have_the_schema(tmp_path: Path) -> None:
    found = make(tmp_path).table("system", ["speedup", "model"])
    assert found.num_rows == 0
    assert found.schema.field("speedup").type == pa.float64()


DISK_FULL = """
import resource, signal, sys
from pathlib import Path
from linepress.records import RunStore
from linepress.records.files import RecordWriteError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = RunStore.open(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    store.append("measure", [{"case_key": f"x{i}", "status": "ok", "error": str(i) * 99} for i in range(999)])
except RecordWriteError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.append("measure", [row("a")])
    store.save_manifest()
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(store.path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_CASES_FAILED, done.stderr
    assert "cannot be written (File too large); make room" in done.stdout
    again = RunStore.open(store.path)
    again.verify()
    assert keys(again) == ["a"]
    assert not list(store.path.glob("tables/*/.*"))


def test_an_old_file_survives_a_refused_write(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")
    (tmp_path / "blocked").write_bytes(b"")
    with pytest.raises(RecordWriteError):
        write_atomically(tmp_path / "blocked" / "file", b"new")
    assert target.read_bytes() == b"old"


def test_leftovers_of_dead_writers_go(tmp_path: Path) -> None:
    store = make(tmp_path)
    store.append("measure", [row("a")])
    leftover = store.path / "tables" / "measure" / ".part-000002.parquet.4194304.tmp"
    leftover.write_bytes(b"half")
    assert keys(RunStore.open(store.path)) == ["a"]
    assert not leftover.exists()
