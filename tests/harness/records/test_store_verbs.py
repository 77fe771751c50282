"""Every verb that reads a record, on one in an S3-compatible store: what it says is what it says of the folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.fs as fs
import pytest
from click.testing import CliRunner, Result

from linepress.cli.app import app
from linepress.errors import RecordError
from linepress.records import RunStore
from linepress.records.fetched import UNUSED_DAYS
from linepress.records.place import StorePath, place_of
from linepress.records.remote import cache_folder, open_place
from linepress_kit.object_store import bucket, environment
from linepress_kit.proxy import CuttingProxy
from linepress_kit.synthetic_run import Shape, make_run
from linepress_kit.timed_runs import timed_rows, write_run

RUNS = "s3://shared/runs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs in a folder: a whole one with every table, and two that differ in one codec's speed."""
    runs = tmp_path_factory.mktemp("stored") / "runs"
    make_run(runs / "whole", Shape(layers=1))
    rows = timed_rows(Shape(layers=1, failing=0))
    write_run(runs / "base", rows, seed=1)
    write_run(runs / "slow", rows, seed=2, slower={("huffman", "decode"): 1.05})
    return runs


@pytest.fixture(scope="module")
def proxy(object_store: int, folder: Path) -> Iterator[CuttingProxy]:
    with bucket(object_store, "shared") as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(proxy).items():
            patch.setenv(name, value)
        upload(folder, RUNS)
        yield proxy


@pytest.fixture
def store(proxy: CuttingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CuttingProxy:
    """The runs in a bucket, and a cache that knows none of them."""
    for name, value in environment(proxy).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return proxy


def upload(folder: Path, uri: str) -> None:
    remote, base = open_place(uri)
    fs.copy_files(str(folder), base, source_filesystem=fs.LocalFileSystem(), destination_filesystem=remote)


def invoke(*words: str, **options: Any) -> Result:
    return CliRunner().invoke(app, list(words), standalone_mode=False, **options)


def answer(*words: str) -> Any:
    done = invoke(*words, "--json")
    assert done.exception is None, done.exception
    return json.loads(done.stdout)


def test_the_words_of_a_comparison_are_those_of_the_folders(store: CuttingProxy, folder: Path) -> None:
    there = invoke("compare", f"{RUNS}/base", f"{RUNS}/slow")
    here = invoke("compare", str(folder / "base"), str(folder / "slow"))
    assert there.return_value == here.return_value == 1
    assert there.output.replace(RUNS, str(folder)) == here.output
    assert "gate: FAIL (1 speed regression > 3 %)" in there.output
    mixed = invoke("compare", str(folder / "base"), f"{RUNS}/slow", "--history", RUNS)
    assert mixed.output.splitlines()[-1] == here.output.splitlines()[-1]


def test_a_query_gives_the_same_rows(store: CuttingProxy, folder: Path) -> None:
    for table in ("measure", "channel", "failures", "claims"):
        sql = f"select count(*) as n, count(distinct case_key) as cases from {table}"
        assert answer("query", f"{RUNS}/whole", sql) == answer("query", str(folder / "whole"), sql)


def test_claims_are_judged_alike(store: CuttingProxy, folder: Path) -> None:
    assert answer("claims", f"{RUNS}/whole") == answer("claims", str(folder / "whole"))


def test_runs_are_listed_and_shown_with_their_sizes(store: CuttingProxy, folder: Path) -> None:
    there, here = answer("runs", "list", RUNS), answer("runs", "list", str(folder))
    for row in here:
        row["run"] = row["run"].replace(str(folder), RUNS)
    assert there == here
    assert {Path(row["run"]).name for row in there} == {"whole", "base", "slow"}
    assert answer("runs", "list", "--folder", RUNS, "--suite", "another") == []
    assert {row["run"] for row in answer("list", "runs", "--folder", RUNS)} == {row["run"] for row in there}
    shown, local = answer("runs", "show", f"{RUNS}/whole"), answer("runs", "show", str(folder / "whole"))
    assert shown["rows"] == local["rows"]
    assert shown["rows"]["measure"] == 207
    assert f"no runs under {RUNS}/none" in invoke("runs", "list", f"{RUNS}/none").output
    assert not list(cache_folder("records").glob("*/tables/*")), "footers are read in the store"


def test_a_run_is_deleted_in_the_store_and_in_the_cache(store: CuttingProxy, folder: Path) -> None:
    upload(folder / "whole", f"{RUNS}/doomed")
    answer("query", f"{RUNS}/doomed", "select 1 from measure")
    assert list(cache_folder("records").iterdir())
    assert answer("runs", "delete", f"{RUNS}/doomed", "--yes")["deleted"] == [f"{RUNS}/doomed"]
    assert not StorePath(f"{RUNS}/doomed").exists()
    assert not list(cache_folder("records").iterdir())
    assert StorePath(f"{RUNS}/whole/manifest.json").is_file()
    for what in ("", "/whole/tables"):
        refused = invoke("runs", "delete", RUNS + what, "--yes")
        assert "not a run folder" in str(refused.exception)
    remote, base = open_place(f"{RUNS}/whole/notes.txt")
    with remote.open_output_stream(base) as file:
        file.write(b"mine")
    assert "holds notes.txt" in str(invoke("runs", "delete", f"{RUNS}/whole", "--yes").exception)
    remote.delete_file(base)


READERS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "compare BASE": lambda run: ("compare", run, run),
    "query": lambda run: ("query", run, "select 1"),
    "query --columns": lambda run: ("query", run, "--columns"),
    "runs show": lambda run: ("runs", "show", run),
    "report": lambda run: ("report", run),
    "claims": lambda run: ("claims", run),
    "sync": lambda run: ("sync", run),
    "channel": lambda run: ("channel", run),
    "nightly --baseline": lambda run: ("nightly", "smoke", "--baseline", run, "--no-mlflow"),
}


@pytest.mark.parametrize("verb", READERS)
def test_a_place_without_a_record_is_one_sentence(store: CuttingProxy, verb: str) -> None:
    error = invoke(*READERS[verb](f"{RUNS}/none")).exception
    assert isinstance(error, RecordError)
    assert str(error) == (
        f"{RUNS}/none: not a run folder (no manifest.json); `linepress runs list {RUNS}` shows the runs"
    )


def other_version(folder: Path, tmp_path: Path) -> Path:
    run = tmp_path / "old"
    shutil.copytree(folder / "whole", run)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest |= {"schema_version": 0, "packages": {"linepress": "0.0.7"}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


@pytest.mark.parametrize("where", ["folder", "store"])
@pytest.mark.parametrize("verb", READERS)
def test_another_schema_version_is_refused_with_what_to_do(
    store: CuttingProxy, folder: Path, tmp_path: Path, verb: str, where: str
) -> None:
    run = str(other_version(folder, tmp_path))
    if where == "store":
        upload(Path(run), f"{RUNS}/old")
        run = f"{RUNS}/old"
    error = invoke(*READERS[verb](run)).exception
    assert isinstance(error, RecordError)
    assert re.fullmatch(
        rf"{re.escape(run)}: record of schema version 0, this linepress reads version \d+; run the suite again into "
        r"another folder, or read it with the linepress that wrote it \(0\.0\.7\)",
        str(error),
    )
    assert error.exit_code == 4
    if where == "store":
        StorePath(run).remove_tree()


def test_compare_refuses_another_version_on_either_side_and_lists_show_it(
    store: CuttingProxy, folder: Path, tmp_path: Path
) -> None:
    old = other_version(folder, tmp_path)
    for pair in ((str(old), str(folder / "base")), (str(folder / "base"), str(old))):
        assert "schema version 0" in str(invoke("compare", *pair).exception)
    assert "schema version 0" in answer("runs", "list", str(tmp_path))[0]["problem"]


def test_every_verb_that_reads_a_record_is_tried_above() -> None:
    """A verb whose argument is a run must be in READERS, so that a new one cannot be forgotten."""
    from linepress.cli.app import VERBS
    from linepress.cli.common import PLACE

    takes = set()
    for name in VERBS:
        command = app.get_command(None, name)  # type: ignore[arg-type]
        nested = getattr(command, "commands", {"": command})
        takes |= {
            f"{name} {sub}".strip()
            for sub, one in nested.items()
            if any(p.type is PLACE and p.param_type_name == "argument" for p in one.params)
        }
    known = {verb.replace(" --columns", "").replace(" BASE", "") for verb in READERS}
    assert takes - known == {"runs list", "runs delete"}, "these say what is wrong with it, and may delete it"


@pytest.mark.slow
def test_a_store_that_is_away_is_one_sentence(store: CuttingProxy) -> None:
    """Over 5 s: the client's own retries against a server that is away."""
    store.budget_bytes = 0
    try:
        error = invoke("runs", "list", RUNS).exception
    finally:
        store.budget_bytes = None
    assert isinstance(error, RecordError)
    assert str(error).startswith(f"{RUNS}: the store cannot be read (")
    assert "check the URI, the credentials, AWS_ENDPOINT_URL and the network" in str(error)


def test_a_scheme_that_nobody_knows_is_one_sentence() -> None:
    error = invoke("query", "nosuch://x/y", "select 1").exception
    assert isinstance(error, RecordError)
    assert error.exit_code == 4
    assert "nosuch://x/y: names no place (" in str(error)
    error = invoke("query", "s3://", "select 1").exception
    assert str(error) == "s3://: names no place; give a URI like s3://bucket/run"


def test_a_part_that_was_changed_in_the_store_is_refused(store: CuttingProxy, folder: Path) -> None:
    upload(folder / "whole", f"{RUNS}/changed")
    part = next(name for name in StorePath(f"{RUNS}/changed").files() if "/measure/" in name)
    remote, base = open_place(f"{RUNS}/changed/{part}")
    with remote.open_output_stream(base) as file:
        file.write(b"PAR1 something else")
    error = invoke("query", f"{RUNS}/changed", "select count(*) from measure").exception
    assert f"{RUNS}/changed/{part}: differs from what was written (sha256)" in str(error)
    StorePath(f"{RUNS}/changed").remove_tree()


def test_a_whole_record_is_verified_where_it_is(store: CuttingProxy, folder: Path) -> None:
    upload(folder / "whole", f"{RUNS}/partial")
    run = RunStore.open(f"{RUNS}/partial")
    run.verify()
    name = next(name for name in run.manifest["parts"] if "/measure/" in name)
    remote, base = open_place(f"{RUNS}/partial/{name}")
    remote.delete_file(base)
    with pytest.raises(RecordError, match="part of the record is gone"):
        RunStore.open(f"{RUNS}/partial").verify()
    StorePath(f"{RUNS}/partial").remove_tree()


def test_any_uri_of_pyarrow_will_do(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mounted share by its URI, without any server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(folder, tmp_path / "share")
    runs = f"file://{tmp_path}/share"
    assert {Path(row["run"]).name for row in answer("runs", "list", runs)} == {"whole", "base", "slow"}
    assert invoke("compare", f"{runs}/base", f"{runs}/slow").return_value == 1
    assert answer("runs", "delete", f"{runs}/whole", "--yes")["deleted"] == [f"{runs}/whole"]
    assert sorted(path.name for path in (tmp_path / "share").iterdir()) == ["base", "slow"]


def test_what_was_fetched_is_not_fetched_again_unless_it_changed(
    store: CuttingProxy, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    true = StorePath.read_bytes

    def counted(self: StorePath) -> bytes:
        read.append(self.name)
        return true(self)

    monkeypatch.setattr(StorePath, "read_bytes", counted)
    n = RunStore.open(f"{RUNS}/whole").table("measure").num_rows
    assert [name for name in read if name.endswith(".parquet")]
    del read[:]
    again = RunStore.open(f"{RUNS}/whole")
    assert again.table("measure").num_rows == n
    assert read == ["manifest.json"]
    part = again.parts("measure")[0]
    part.write_bytes(bytes(part.stat().st_size))  # a cache that went bad
    assert RunStore.open(f"{RUNS}/whole").table("measure").num_rows == n


def test_copies_that_nobody_reads_go(store: CuttingProxy) -> None:
    stale = cache_folder("records") / "stale"
    stale.mkdir(parents=True)
    then_s = time.time() - (UNUSED_DAYS + 1) * 86_400
    os.utime(stale, (then_s, then_s))
    RunStore.open(f"{RUNS}/whole")
    assert not stale.exists()


def test_places_behind_a_uri_are_asked_as_paths_are(store: CuttingProxy) -> None:
    run = place_of(f"{RUNS}/whole/")
    assert isinstance(run, StorePath)
    assert (str(run), run.name, str(run.parent)) == (f"{RUNS}/whole", "whole", RUNS)
    assert run == place_of(f"{RUNS}/whole")
    assert (run.is_dir(), run.is_file(), run.exists()) == (True, False, True)
    assert (run / "manifest.json").is_file()
    assert not (run / "nothing").exists()
    assert list((run / "nothing").iterdir()) == []
    with pytest.raises(FileNotFoundError):
        (run / "nothing").read_bytes()
    assert str(place_of("s3://bucket").parent) == "s3://bucket", "there is nothing above a bucket"
    asked = place_of("s3://bucket/run?region=eu-west-1")
    assert str(asked) == "s3://bucket/run?region=eu-west-1"
    assert asked.name == "run"


def test_a_record_in_the_store_reads_back_in_one_line(store: CuttingProxy) -> None:
    """The line that docs/nightly.md gives for a store."""
    table = ds.dataset(f"{RUNS}/whole/tables/measure").to_table()
    assert table.num_rows == RunStore.open(f"{RUNS}/whole").table("measure").num_rows
