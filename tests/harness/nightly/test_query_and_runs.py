"""SQL over a record that can do nothing else, and run folders that are never mistaken for anything else."""

from __future__ import annotations

import csv
import importlib
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from linepress.cli.query import command as query_command
from linepress.cli.runs import command as runs_command
from linepress.errors import LinepressError, RecordError
from linepress.records import TABLES, RunStore
from linepress.records.query import QueryError, columns, query
from linepress.run.folders import check_deletable, delete, described, listed
from linepress.run.recorder import only_writer
from linepress_kit.synthetic_run import Shape, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("record") / "run"
    make_run(path, Shape(layers=1))
    return path


def invoke(command: Any, *arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(command, list(arguments), standalone_mode=False, **options)


def test_a_query_gives_what_the_rows_say(run: Path) -> None:
    result = query(run, "select variant, count(*) as n from measure where status = 'ok' group by variant").to_pylist()
    rows = [row for row in RunStore.open(run).rows("measure") if row["status"] == "ok"]
    assert {row["variant"]: row["n"] for row in result} == {
        v: sum(row["variant"] == v for row in rows) for v in {row["variant"] for row in rows}
    }
    joined = query(run, "select count(*) as n from measure m join failures f using (case_key)").to_pylist()
    assert joined == [{"n": 1}]
    store = RunStore.open(run)
    for table in TABLES:  # one without a row among them
        found = query(run, f"select count(*) as n from {table}").to_pylist()
        assert found == [{"n": sum(1 for _ in store.rows(table))}], table
    assert not list(store.rows("claims"))
    assert query(run, "select gate, passed from gates order by gate").num_rows == 2
    lists = query(run, "select bits_histogram[400] as b, packings from measure where codec = 'huffman' limit 1")
    assert lists.num_rows == 1


def test_a_query_sees_current_rows_only(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", Shape(layers=1, failing=1))
    before = query(store.path, "select count(*) as n, count_if(status = 'failed') as failed from measure").to_pylist()
    row = next(row for row in store.rows("measure") if row["status"] == "failed")
    store.append("measure", [{**row, "status": "ok", "error": None}])
    after = query(store.path, "select count(*) as n, count_if(status = 'failed') as failed from measure").to_pylist()
    assert (before[0]["failed"], after[0]["failed"]) == (1, 0)
    assert before[0]["n"] == after[0]["n"]


@pytest.mark.parametrize(
    "sql",
    [
        "copy measure to '{path}'",
        "create table t as select 1",
        "insert into measure select * from measure",
        "drop view measure",
        "attach '{path}'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "pragma enable_profiling",
        "select 1; select 2",
        "",
    ],
)
def test_a_record_is_read_only(run: Path, tmp_path: Path, sql: str) -> None:
    path = tmp_path / "out"
    with pytest.raises(QueryError, match="query: "):
        query(run, sql.format(path=path))
    assert not path.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "select * from read_csv('{path}')",
        "select * from read_text('{path}')",
        "select * from '{path}'",
        "select * from read_parquet('http://127.0.0.1:9/x.parquet')",
        "select * from glob('/*')",
        "select * from secret_rows",
    ],
)
def test_a_query_sees_no_file_no_network_and_no_variable(run: Path, tmp_path: Path, sql: str) -> None:
    import pandas as pd

    secret_rows = pd.DataFrame({"a": [1]})
    path = tmp_path / "secret.csv"
    path.write_text("a\n1\n")
    with pytest.raises(QueryError, match="tables are measure, channel"):
        query(run, sql.format(path=path))
    assert len(secret_rows) == 1


def test_another_schema_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", Shape(layers=1))
    store.manifest["schema_version"] = 0
    store.save_manifest()
    with pytest.raises(RecordError, match=r"schema version 0, this linepress reads version \d+; run the suite again"):
        query(store.path, "select 1")


@pytest.mark.threat("formulas in CSV")
def test_the_query_command_prints_table_csv_and_json(run: Path) -> None:
    sql = (
        "select variant, avg(payload_ratio) as ratio from measure where codec = 'huffman' group by variant order by 1"
    )
    rows = json.loads(invoke(query_command, str(run), sql, "--json").output)
    assert [row["variant"] for row in rows] == ["huffman", "huffman:tables=4"]
    assert invoke(query_command, str(run), sql, "--csv").output.splitlines()[0] == "variant,ratio"
    formulas = "select '=HYPERLINK(\"//x\")' as a, '+1' as b, '-1+2' as c, '@x' as d, chr(9) || '=1' as e, -1 as f"
    assert invoke(query_command, str(run), formulas, "--csv").output.splitlines()[1].startswith("\"'=HYPERLINK(")
    cells = next(csv.reader([invoke(query_command, str(run), formulas, "--csv").output.splitlines()[1]]))
    assert [cell[0] for cell in cells] == ["'", "'", "'", "'", "'", "-"]  # a number stays one
    beside = "select ' =1+1' as a, chr(65309) || '1' as b, 'x;=1' as c, 'x' || chr(9) || '=1' as d, 'x=1' as e"
    text = invoke(query_command, str(run), beside, "--csv").output.splitlines()[1]
    assert text == '\' =1+1,\'\uff1d1,"x;=1","x\t=1",x=1'
    assert "huffman:tables=4" in invoke(query_command, str(run), sql).output
    listed_columns = json.loads(invoke(query_command, str(run), "--columns", "--json").output)
    assert {row["table"] for row in listed_columns} == set(TABLES)
    assert {"column": "raw_bytes", "unit": "B"}.items() <= next(
        row for row in listed_columns if row["column"] == "raw_bytes"
    ).items()
    assert invoke(query_command, str(run)).exception is not None
    assert all(row["doc"] for row in columns())


def printed_lines() -> list[str]:
    """The lines that docs/nightly.md gives for reading a record back."""
    page = (Path(__file__).parents[3] / "docs" / "nightly.md").read_text(encoding="utf-8")
    return [line for line in page.split("```python\n")[1].partition("```")[0].splitlines() if line]


def test_the_lines_are_those_of_four_libraries() -> None:
    assert [line.partition(".")[0] for line in printed_lines()] == ["pyarrow", "pandas", "polars", "duckdb"]


@pytest.mark.parametrize("line", printed_lines(), ids=lambda line: line.partition(".")[0])
def test_a_record_reads_back_in_one_line(run: Path, line: str) -> None:
    """The very line that the page prints, with its import and the path of a run."""
    library = line.partition(".")[0]
    imported = "pyarrow.dataset" if library == "pyarrow" else library
    known = {library: importlib.import_module(imported.partition(".")[0])}
    importlib.import_module(imported)
    read = eval(line.replace("runs/RUN", str(run)), known)
    wanted = RunStore.open(run).table("measure")
    table = read.to_arrow_table() if library == "duckdb" else read
    table = table if library in ("pyarrow", "duckdb") else pa.table(read[["case_key", "raw_bytes"]])
    assert len(read.columns) == len(wanted.column_names)
    assert table.num_rows == wanted.num_rows
    assert sorted(table["case_key"].to_pylist()) == sorted(wanted["case_key"].to_pylist())
    assert sum(filter(None, table["raw_bytes"].to_pylist())) == sum(filter(None, wanted["raw_bytes"].to_pylist()))


@pytest.fixture
def doomed(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "doomed", Shape(layers=1)).path


def test_runs_are_listed_and_shown(doomed: Path) -> None:
    make_run(doomed.with_name("other"), Shape(layers=1))
    (doomed / "nightly").mkdir()
    (doomed / "nightly" / "summary.json").write_text('{"verdict": "FAIL"}')
    rows = listed(doomed.parent)
    assert {Path(row["run"]).name: row["verdict"] for row in rows} == {"doomed": "FAIL", "other": None}
    assert all(row["size_bytes"] > 1000 for row in rows)
    assert listed(doomed.parent, "another") == []
    found = described(doomed)
    assert found["suite"].startswith("invented v1")
    assert found["rows"]["measure"] == 207
    shown = invoke(runs_command, "show", str(doomed))
    assert "c0ffeec0ffee (dirty)" in shown.output
    assert "FAIL" in invoke(runs_command, "list", "--folder", str(doomed.parent)).output
    assert json.loads(invoke(runs_command, "list", "--folder", str(doomed.parent), "--json").output)
    assert "no runs under" in invoke(runs_command, "list", "--folder", str(doomed / "none")).output


def test_delete_asks_first(doomed: Path) -> None:
    kept = invoke(runs_command, "delete", str(doomed), input="n\n")
    assert doomed.exists()
    assert "nothing deleted" in kept.output
    gone = invoke(runs_command, "delete", str(doomed), input="y\n")
    assert not doomed.exists()
    assert "deleted 1 run," in gone.output


def test_delete_with_yes_does_not_ask(doomed: Path) -> None:
    done = json.loads(invoke(runs_command, "delete", str(doomed), "--yes", "--json").output)
    assert done["deleted"] == [str(doomed)]
    assert done["freed_bytes"] > 1000
    assert not doomed.exists()


def test_deleting_the_latest_good_run_says_so(doomed: Path) -> None:
    older = make_run(doomed.with_name("older"), Shape(layers=1))
    newer = RunStore.open(doomed)
    for store, created in ((older, "2026-01-01T00:00:00+00:00"), (newer, "2026-01-02T00:00:00+00:00")):
        store.manifest |= {"created_at": created, "status": "complete", "exit_code": 0}
        store.save_manifest()
    asked = invoke(runs_command, "delete", str(doomed), input="n\n")
    assert f"note: {doomed} is the latest good run of suite invented, the baseline of the next night" in asked.output
    assert f"after it that is {older.path}" in " ".join(asked.output.split())
    assert json.loads(invoke(runs_command, "delete", str(older.path), "--yes", "--json").stdout)["notes"] == []
    (note,) = json.loads(invoke(runs_command, "delete", str(doomed), "--yes", "--json").stdout)["notes"]
    assert note.endswith("after it there is none, and the next night passes by its gates alone")


def test_everything_that_a_run_leaves_is_known(doomed: Path) -> None:
    """A file that linepress writes must not make its own folder undeletable."""
    for name in ("events.jsonl", "failures.jsonl", "machine_load.json", "mlflow.json", "suite.yaml", ".lock"):
        (doomed / name).write_text("")
    delete(doomed)
    assert not doomed.exists()


def test_what_is_not_a_run_is_never_deleted(doomed: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("mine")
    manifest = tmp_path / "web"
    manifest.mkdir()
    (manifest / "manifest.json").write_text('{"name": "a web app", "icons": []}')
    link = tmp_path / "link"
    link.symlink_to(doomed)
    for path, words in (
        (thesis, "not a run folder"),
        (manifest, "not a run folder"),
        (link, "a link"),
        (tmp_path / "nowhere", "there is no such run folder"),
        (doomed.parent, "not a run folder"),
    ):
        done = invoke(runs_command, "delete", str(path), "--yes")
        assert isinstance(done.exception, LinepressError)
        assert words in str(done.exception)
    assert (thesis / "chapter.txt").exists()
    assert (manifest / "manifest.json").exists()
    assert (doomed / "manifest.json").exists()


def test_a_run_with_somebodys_work_in_it_is_kept(doomed: Path) -> None:
    (doomed / "notes.txt").write_text("mine")
    with pytest.raises(RecordError, match=r"holds notes\.txt, which linepress did not write"):
        delete(doomed)
    assert (doomed / "notes.txt").exists()


def test_several_are_checked_before_any_is_deleted(doomed: Path, tmp_path: Path) -> None:
    invoke(runs_command, "delete", str(doomed), str(tmp_path), "--yes")
    assert doomed.exists()


def test_a_run_that_is_being_written_is_kept(doomed: Path) -> None:
    with only_writer(doomed), pytest.raises(RecordError, match="another linepress is writing"):
        delete(doomed)
    assert (doomed / "manifest.json").exists()


def test_damaged_and_foreign_versions_may_be_deleted(doomed: Path) -> None:
    manifest = json.loads((doomed / "manifest.json").read_text())
    (doomed / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 0}))
    check_deletable(doomed)
    delete(doomed)
    assert not os.path.lexists(doomed)
