"""Machines as they are met: no home, nothing writable, odd folders and terminals, two runs at once, proxies."""

from __future__ import annotations

import http.server
import io
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numba
import pytest

from linepress import environment
from linepress.cli.app import mend_streams
from linepress.cli.doctor import numba_threads
from linepress.cluster.join import MAX_RAY_FOLDER, ClusterError, shorten_ray_folder
from linepress.errors import LinepressError, SourceError
from linepress.intake.client import Client, ClientError
from linepress.sources import open_source
from linepress.submission.check.ledger import Ledger
from linepress.submission.check.limits import Limits
from linepress.submission.check.reading import read_file
from linepress.submission.check.rules.documents import check_documents
from linepress.submission.fixtures import TERMS, build, model_files
from linepress.submission.pack import pack
from linepress.tracking import MirrorError, sync_run
from linepress.tracking.mirror import artifact_place, exclusive, shown_store, store_file, tracking_uri
from linepress_kit.synthetic_run import make_run

NAMES = ["feature%2Fx", "a?b", "a#b", "plain"]


def no_home(*_: object) -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_without_a_home_caches_are_private_and_temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root = environment.cache_root()
    assert root.parent == tmp_path
    assert root.stat().st_mode & 0o077 == 0
    assert environment.cache_root() == root
    root.chmod(0o755)  # someone else could write there: another one is taken
    assert environment.cache_root() != root


def test_a_file_whose_name_begins_with_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~old.safetensors").write_bytes(build({"a.weight": ("F16", [2, 2], bytes(range(8)))}))
    assert [t.name for t in open_source("~old.safetensors").tensors()] == ["a.weight"]
    with pytest.raises(SourceError, match="no such file"):
        open_source("~nobody-of-that-name/x.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment.expanded("~/x") == tmp_path / "x"


def test_kernels_get_a_temporary_cache_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    assert environment.kernel_cache_writable()
    environment.prepare_kernel_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == ""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: str(path).startswith(str(tmp_path)))
    assert numba_threads().state == "warn"
    environment.prepare_kernel_cache()
    assert Path(os.environ["NUMBA_CACHE_DIR"]).parent == tmp_path
    found = numba_threads()
    assert found.state == "warn"
    assert "set NUMBA_CACHE_DIR to a lasting folder" in found.advice


def test_kernels_go_without_a_cache_where_there_is_no_place_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core.dispatcher import Dispatcher

    def nowhere(self: object) -> None:
        raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")

    monkeypatch.setattr(Dispatcher, "enable_caching", nowhere)
    environment.forgo_kernel_cache()
    assert numba.njit(cache=True)(lambda x: x + 1)(2) == 3


def test_a_terminal_that_cannot_show_a_character_gets_another(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    mend_streams()
    sys.stdout.write("1.5 ± 0.1 µs")
    sys.stdout.flush()
    assert raw.getvalue() == b"1.5 ? 0.1 ?s"


def test_a_closed_stream_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    mend_streams()
    sys.stdout.write("to nobody")
    sys.stdout.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_store_lies_in_the_working_folder_whatever_it_is_called(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    from sqlalchemy import create_engine

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    engine = create_engine(tracking_uri())
    with engine.connect():
        pass
    engine.dispose()
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]
    assert store_file(tracking_uri()) == folder / "mlflow.db"
    assert shown_store(tracking_uri()) == f"sqlite:///{folder}/mlflow.db"
    place = artifact_place(tracking_uri())
    if name == "plain":
        assert place is None
    else:
        from mlflow.utils.file_utils import local_file_uri_to_path

        assert place is not None
        assert local_file_uri_to_path(place) == str(folder / "mlruns" / "linepress")


def test_a_password_of_a_store_is_not_shown() -> None:
    assert shown_store("postgresql://me:secret@db/x") == "postgresql://db/x"


def test_runs_in_one_folder_fill_the_store_one_after_the_other(tmp_path: Path) -> None:
    uri, inside, most = f"sqlite:///{tmp_path}/mlflow.db", 0, 0

    def work() -> None:
        nonlocal inside, most
        with exclusive(uri):
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    with exclusive(uri), pytest.raises(TimeoutError, match="another run has held"), exclusive(uri, wait_s=0.1):
        pass
    with exclusive("http://127.0.0.1:1"):
        pass


def test_a_store_that_cannot_be_written_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = make_run(tmp_path / "run")
    shut = tmp_path / "shut"
    shut.mkdir()
    monkeypatch.chdir(shut)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != shut and access(path, mode))
    began = time.monotonic()
    with pytest.raises(MirrorError, match=r"shut cannot be written.*linepress sync"):
        sync_run(store)
    assert time.monotonic() - began < 20


def test_two_first_runs_at_once_is_a_warning_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from alembic.util import CommandError

    from linepress.tracking import mirror

    def race(self: object, store: object, uri: str) -> None:
        raise CommandError("Can't locate revision identified by '123'")

    store = make_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(mirror.Mirroring, "__init__", race)
    with pytest.raises(MirrorError, match=r"locate revision.*linepress sync"):
        sync_run(store)


def test_a_long_temporary_folder_is_not_ray_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    shorten_ray_folder()
    assert "RAY_TMPDIR" not in os.environ
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * MAX_RAY_FOLDER)
    shorten_ray_folder()
    assert len(os.environ["RAY_TMPDIR"]) < MAX_RAY_FOLDER
    monkeypatch.setenv("RAY_TMPDIR", "/" + "y" * 200)
    with pytest.raises(ClusterError, match=r"RAY_TMPDIR .* too long for Ray's sockets"):
        shorten_ray_folder()
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ClusterError, match="set RAY_TMPDIR to a shorter folder"):
        shorten_ray_folder()


def model(base: Path, config: bytes) -> Path:
    folder = base / "model"
    folder.mkdir()
    for name, data in model_files().items():
        (folder / name).write_bytes(data)
    (folder / "config.json").write_bytes(config)
    return folder


@pytest.mark.parametrize(
    ("config", "written"),
    [
        (
            b'{"time_step_limit": [0.0, Infinity], "a": "Infinity"}',
            b'{"time_step_limit": [0.0, 1e999], "a": "Infinity"}',
        ),
        (b'{"low": -Infinity, "x": NaN}', b'{"low": -1e999, "x": null}'),
    ],
)
def test_what_pack_takes_submit_takes(tmp_path: Path, config: bytes, written: bytes) -> None:
    packed = pack(model(tmp_path, config), "acme", tmp_path / "out", TERMS)
    assert packed.normalised == ["config.json"]
    assert (packed.folder / "config.json").read_bytes() == written
    assert json.loads(written)  # what a strict reader takes


def test_a_configuration_of_several_megabytes_is_taken(tmp_path: Path) -> None:
    modules = [f"model.layers.{i}.mlp.experts.{j}.down_proj" for i in range(60) for j in range(600)]
    config = json.dumps({"quantization_config": {"ignore": modules}}).encode()
    assert 1 << 20 < len(config) < 4 << 20
    packed = pack(model(tmp_path, config), "acme", tmp_path / "out", TERMS)
    assert packed.normalised == []
    ledger, limits = Ledger(), Limits()
    descriptor = os.open(packed.folder / "config.json", os.O_RDONLY)
    facts = read_file("config.json", descriptor, len(config), limits, ledger, 0)
    os.close(descriptor)
    check_documents({"config.json": facts}, limits, ledger)
    assert [f for f in ledger.findings() if f.verdict == "FAIL"] == []


def test_pack_refuses_what_submit_would(tmp_path: Path) -> None:
    for config, words in ((b'{"a": 1, "a": 2}', r"config.json.*mend the model"), (b'{"auto_map": {}}', "auto_map")):
        base = Path(tempfile.mkdtemp(dir=tmp_path))
        with pytest.raises(LinepressError, match=words):
            pack(model(base, config), "acme", tmp_path / "out", TERMS)


class _Proxy(http.server.BaseHTTPRequestHandler):
    seen: list[tuple[str, str]] = []  # noqa: RUF012

    def do_CONNECT(self) -> None:
        self.seen.append((self.path, self.headers.get("Proxy-Authorization", "")))
        self.send_error(403)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_proxy_of_the_environment_is_used_and_no_proxy_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("https_proxy", f"http://me:pw@127.0.0.1:{server.server_port}")
        monkeypatch.delenv("no_proxy", raising=False)
        client = Client("https://intake.example", "token")
        with pytest.raises(OSError, match="403"):
            client._connection().connect()
        assert _Proxy.seen == [("intake.example:443", "Basic bWU6cHc=")]
        assert Client("https://127.0.0.1:1", "token")._connection().port == 1
        monkeypatch.setenv("no_proxy", "intake.example")
        assert client._connection().host == "intake.example"
        monkeypatch.delenv("no_proxy")
        monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
        with pytest.raises(ClientError, match=r"socks5://127.0.0.1, not http"):
            client._connection()
    finally:
        server.shutdown()
        server.server_close()
