"""The record in an object store: a real S3-compatible server on loopback, and what happens while it is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.fs as fs
import pytest
from click.testing import CliRunner

from linepress.cli.app import app
from linepress.cluster.join import Cluster
from linepress.errors import EXIT_STORE_REFUSES, EXIT_USAGE, RecordError
from linepress.records import RunStore
from linepress.records.remote import RemoteCopy, RemoteError, is_remote, open_place, working_folder
from linepress.run.engine import Run
from linepress.run.options import RunOptions, RunOutcome
from linepress.run.progress import Progress
from linepress.suite.model import load_suite
from linepress_kit.faults import suite_text
from linepress_kit.object_store import bucket, environment
from linepress_kit.proxy import CuttingProxy
from linepress_kit.records import stable_bytes

URI = "s3://records/nights/one"


@pytest.fixture
def store(object_store: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CuttingProxy]:
    """The server behind a proxy, and the environment that leads to it; the bucket is new."""
    with bucket(object_store, "records") as proxy:
        for name, value in environment(proxy).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield proxy


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(suite_text("remote", "synthetic:gauss?shape=64x64&tensors=6", "[raw, tans]"), encoding="utf-8")
    return path


def run(suite: Path, uri: str = URI) -> RunOutcome:
    options = RunOptions(remote=uri, mlflow=False, report=False)
    return Run(load_suite(str(suite)), options, Progress(live=False)).execute()


def objects(uri: str = URI) -> set[str]:
    remote, base = open_place(uri)
    found = remote.get_file_info(fs.FileSelector(base, recursive=True))
    return {entry.path.removeprefix(f"{base}/") for entry in found if entry.type == fs.FileType.File}


def forget(uri: str = URI) -> None:
    """Another machine: nothing of the run lies here."""
    working_folder(uri).rename(working_folder(uri).with_name("forgotten"))


def test_what_is_a_uri() -> None:
    assert is_remote("s3://bucket/run")
    assert not is_remote("runs/night")
    assert working_folder("s3://a/run") != working_folder("s3://b/run")


@pytest.mark.parametrize("uri", ["nosuch://x/y", "s4://bucket/run", "s3:///run", "s3://", "s3:/bucket/run", "gs:run"])
def test_a_place_that_no_later_try_mends_is_a_mistake_of_use(uri: str, suite: Path) -> None:
    words = ["run", str(suite), "--no-mlflow", "--out", uri]
    done = CliRunner().invoke(app, words, standalone_mode=False)
    assert isinstance(done.exception, RecordError)
    assert done.exception.exit_code == EXIT_USAGE
    assert str(done.exception).startswith(f"{uri}: ")
    assert "give" in str(done.exception)


def test_an_endpoint_that_is_no_address_is_a_mistake_of_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:9000")
    with pytest.raises(RecordError, match="AWS_ENDPOINT_URL: localhost:9000 is no address; give") as refused:
        open_place(URI)
    assert refused.value.exit_code == EXIT_USAGE


@pytest.mark.slow
def test_a_run_in_a_bucket_is_read_there_and_resumed_anywhere(
    ray_cluster: Cluster, store: CuttingProxy, suite: Path
) -> None:
    """Over 5 s on a busy machine: the server starts."""
    first = run(suite)
    assert (first.exit_code, first.done) == (0, 12)
    local = {
        path.relative_to(first.store.path).as_posix() for path in first.store.path.rglob("[!.]*") if path.is_file()
    }
    assert objects() == local
    table = ds.dataset(f"{URI}/tables/measure").to_table(columns=["case_key", "status"])
    assert table.num_rows == 12
    wanted = stable_bytes(first.store.path)
    forget()
    again = run(suite)
    assert (again.exit_code, again.done, again.resumed) == (0, 0, 12)
    assert stable_bytes(again.store.path) == wanted
    again.store.verify()


def test_a_missing_bucket_is_found_before_the_first_case(store: CuttingProxy, suite: Path) -> None:
    with pytest.raises(RemoteError, match="there is no bucket absent; make it") as refused:
        run(suite, "s3://absent/nights/one")
    assert refused.value.exit_code == EXIT_STORE_REFUSES


@pytest.mark.slow
def test_a_store_that_goes_away_costs_nothing_but_the_same_command(
    ray_cluster: Cluster, store: CuttingProxy, suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over 5 s: the client's own retries against a server that is away."""
    store.budget_bytes = 20_000
    with pytest.raises(RemoteError, match=r"the record is whole in .*give the same command again"):
        run(suite)
    assert store.budget_bytes == 0
    assert "does not take the record now" in capsys.readouterr().err
    folder = working_folder(URI)
    assert set(RunStore.open(folder).statuses("measure").values()) == {"ok"}
    store.budget_bytes = None
    mended = run(suite)
    assert (mended.exit_code, mended.done, mended.resumed) == (0, 0, 12)
    wanted = stable_bytes(folder)
    forget()
    elsewhere = run(suite)
    assert elsewhere.done == 0
    elsewhere.store.verify()
    assert stable_bytes(elsewhere.store.path) == wanted


def test_two_machines_at_once_are_refused(
    ray_cluster: Cluster, tmp_path: Path, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a plain folder behind a URI, as NFS would be."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = f"file://{tmp_path}/shared/run"
    run(suite, uri)
    here = RunStore.open(working_folder(uri))
    here.copy = RemoteCopy(uri, here.path)
    forget(uri)
    run(suite, uri)  # the other machine resumes and adds a session
    working_folder(uri).with_name("forgotten").rename(here.path.with_name("mine"))
    here.path = here.copy.folder = here.path.with_name("mine")
    here.manifest["sessions"].append({"started_at": "2026-01-01", "host": "me"})
    with pytest.raises(RecordError, match="another linepress has written to this run since"):
        here.save_manifest()
