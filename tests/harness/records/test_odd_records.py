"""Records that are damaged or oddly named: one sentence each, from every verb, in a folder and behind a URI."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from linepress.cli.app import app
from linepress.errors import LinepressError, RecordError
from linepress.records import RunStore, found
from linepress.records.place import StorePath, size_bytes
from linepress.records.remote import folder_name, working_folder
from linepress.run import folders
from linepress.run.folders import delete, described, listed, loss_of
from linepress.run.recorder import only_writer
from linepress_kit.synthetic_run import Shape, make_run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "whole"
    make_run(path, Shape(layers=1))
    return path


@pytest.fixture
def run(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of its own for each test, and a cache that knows nothing."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = tmp_path / "runs" / "night"
    shutil.copytree(whole, copy)
    return copy


def as_folder(path: Path) -> str:
    return str(path)


def as_uri(path: Path) -> str:
    return path.as_uri()


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), standalone_mode=False)


@pytest.mark.parametrize("named", [as_folder, as_uri])
@pytest.mark.parametrize("verb", [["runs", "show"], ["query"]])
def test_a_part_cut_short_is_named_in_one_sentence(run: Path, named: Callable[[Path], str], verb: list[str]) -> None:
    part = next((run / "tables" / "measure").glob("part-*"))
    part.write_bytes(part.read_bytes()[:100])
    sql = ["select count(*) from measure"] if verb == ["query"] else []
    error = invoke(*verb, named(run), *sql).exception
    assert isinstance(error, RecordError), repr(error)
    assert part.name in str(error)
    assert "\n" not in str(error)


def test_names_that_a_uri_must_escape_are_listed_and_read(run: Path) -> None:
    names = ["with space", "50%", "a?b", "a#b", "ä"]
    for name in names:
        shutil.copytree(run, run.parent / name)
    rows = listed(StorePath(run.parent.as_uri()))
    assert len(rows) == 1 + len(names)
    for row in rows:
        assert described(StorePath(row["run"]))["rows"] == described(run)["rows"]
    assert {StorePath(row["run"]).name for row in rows} == {"night", *names}


@pytest.mark.parametrize("field", ["suite", "git", "machine", "counts", "packages", "parts"])
@pytest.mark.parametrize("named", [as_folder, as_uri])
def test_a_manifest_with_a_field_of_another_kind_is_listed_as_unreadable(
    run: Path, field: str, named: Callable[[Path], str]
) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, field: "odd"}))
    with pytest.raises(RecordError, match=field):
        RunStore.open(named(run))
    result = invoke("runs", "list", named(run.parent))
    assert result.exit_code == 0
    assert "unreadable" in result.output
    assert field in result.output


def test_a_run_of_another_version_whose_suite_is_a_name_may_be_deleted(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 2, "suite": "invented"}))
    result = invoke("runs", "delete", str(run), "--yes")
    assert result.exception is None
    assert not run.exists()


def test_a_folder_where_the_manifest_should_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(LinepressError, match=r"manifest\.json: cannot be read"):
        RunStore.open(tmp_path)


def test_a_slash_at_the_end_names_the_same_run(run: Path) -> None:
    uri = run.as_uri()
    assert folder_name(f"{uri}/") == folder_name(uri) == folder_name(str(StorePath(f"{uri}/")))
    assert folder_name("s3://b/run/?region=x") == folder_name(str(StorePath("s3://b/run/?region=x")))
    here = working_folder(f"{uri}/")
    here.mkdir(parents=True)
    with only_writer(here), pytest.raises(RecordError):  # as `linepress run --out URI/` holds it
        delete(StorePath(uri))
    assert (run / "manifest.json").exists()


def test_a_history_that_is_not_there_is_said(run: Path) -> None:
    error = invoke("compare", str(run), str(run), "--history", str(run.parent / "missing")).exception
    assert isinstance(error, RecordError)
    assert "missing" in str(error)


def test_a_file_that_a_writer_replaces_meanwhile_has_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    names = ["there", ".there.1.tmp", "link"]
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: iter(self / name for name in names))
    assert size_bytes(tmp_path) == 3


def test_deleting_many_runs_of_a_folder_looks_at_it_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run, *(run.with_name(f"night-{i}") for i in range(3))]
    for other in runs[1:]:
        shutil.copytree(run, other)
    looks: list[Path] = []

    def counted(folder: Path, suite: str) -> list[tuple[Path, dict[str, object]]]:
        looks.append(folder)
        return [(path, {}) for path in runs]

    monkeypatch.setattr(folders, "suite_runs", counted)
    monkeypatch.setattr(found, "is_good", lambda path, speed: True)
    assert "the latest good run of suite" in loss_of(runs)[0]
    assert looks == [run.parent]


def test_a_cache_that_cannot_be_made_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(run / "manifest.json"))
    error = invoke("query", run.as_uri(), "select 1").exception
    assert isinstance(error, RecordError)
    assert "set XDG_CACHE_HOME" in str(error)
