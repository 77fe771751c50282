"""``hf://`` through the real client against a stand-in on 127.0.0.1: what is read, and every way a server can lie."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from linepress.errors import SourceError
from linepress.sources import TensorRef, hub, open_source, staging
from linepress.sources.staging import fetch_ahead, staged
from linepress.stages.measure.case import measure_case
from linepress.submission.fixtures import build
from linepress_codecs.variant import Variant
from linepress_kit.gguf_files import build_gguf
from linepress_kit.hub_server import Fault, HubServer, Repo, _Handler

RNG = np.random.Generator(np.random.PCG64(1))
BODY = RNG.integers(0, 256, 4 * 60_000, dtype=np.uint8).tobytes()
Q, K = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"
WHOLE = build({Q: ("BF16", [400, 300], BODY)})
SHARDS = {
    "model-00001-of-00002.safetensors": build({Q: ("BF16", [400, 300], BODY)}),
    "model-00002-of-00002.safetensors": build({K: ("BF16", [200, 300], BODY[: 2 * 60_000])}),
}
INDEX = json.dumps(
    {
        "metadata": {"total_size": 360_000},
        "weight_map": {Q: "model-00001-of-00002.safetensors", K: "model-00002-of-00002.safetensors"},
    }
).encode()


GGUF = [build_gguf([(name, [300, 400], 30, BODY)]) for name in ("blk.0.attn_q.weight", "blk.1.attn_q.weight")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(hub, "LONGEST_WAIT_S", 0.02)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    repos = {
        "acme/whole": Repo({"model.safetensors": WHOLE, "config.json": b"{}", "sub/other.safetensors": WHOLE}),
        "acme/sharded": Repo({**SHARDS, "model.safetensors.index.json": INDEX}),
        "acme/pickles": Repo({"pytorch_model.bin": b"\x80\x02}q\x00."}),
        "acme/disguised": Repo({"model.safetensors": b"\x80\x04\x95" + b"x" * 100}),
        "acme/ggufs": Repo({f"m-{i:05d}-of-00002.gguf": part for i, part in enumerate(GGUF, 1)}),
        "acme/twice": Repo({"model.safetensors": WHOLE, "consolidated.safetensors": WHOLE}),
        "acme/secret": Repo({"model.safetensors": WHOLE}, gated=True),
        "datasets/acme/caches": Repo({"kv.safetensors": WHOLE}),
    }
    with HubServer(repos) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def first(uri: str = "hf://acme/whole@main") -> TensorRef:
    return open_source(uri).tensors()[0]


def test_revision_is_resolved_to_its_commit_and_bytes_come_by_range(server: HubServer) -> None:
    source = open_source("hf://acme/whole@main")
    tensor = source.tensors()[0]
    commit = server.repos["acme/whole"].commit
    assert source.revision == tensor.revision == commit
    assert len(commit) == 40
    assert (tensor.name, tensor.group, tensor.layer, tensor.shape) == (Q, "q_proj", 0, (400, 300))
    assert tensor.read(1000, 1064).tobytes() == BODY[1000:1064]
    asked = server.requests[-1]
    assert asked.range.startswith("bytes=")
    assert commit in server.requests[-2].path, "bytes are read at the commit, not at the branch"


def test_opening_reads_no_more_than_headers(server: HubServer) -> None:
    open_source("hf://acme/sharded@main")
    shard_gets = [r for r in server.requests if r.path.endswith(".safetensors") and "/resolve/" in r.path]
    assert len(shard_gets) == 2, "one round trip a shard"


def test_sharded_repository_gives_every_tensor_of_the_index(server: HubServer) -> None:
    source = open_source("hf://acme/sharded")
    assert [t.name for t in source.tensors()] == [Q, K]
    assert source.tensor(K).read(0, 120_000).tobytes() == BODY[:120_000]
    files = source.provenance()["files"]
    assert isinstance(files, list)
    assert len(files) == 2


def test_a_reference_survives_pickling_and_reads_in_another_process(server: HubServer) -> None:
    tensor = first()
    blob = pickle.dumps(tensor)
    assert len(blob) < 4096
    assert pickle.loads(blob).content_sha256() == tensor.content_sha256()


def test_subfolder_and_dataset_repositories(server: HubServer) -> None:
    assert first("hf://acme/whole@main/sub").read(0, 8).tobytes() == BODY[:8]
    assert first("hf://datasets/acme/caches@main").read(0, 8).tobytes() == BODY[:8]


def test_header_longer_than_the_first_guess_takes_a_second_request(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "HEADER_GUESS_BYTES", 16)
    assert first().read(0, 8).tobytes() == BODY[:8]


def test_gated_repository_says_what_to_do_and_opens_with_the_token(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match=r"acme/secret@main is gated; accept its terms .* HF_TOKEN"):
        open_source("hf://acme/secret@main")
    monkeypatch.setenv("HF_TOKEN", server.token)
    source = open_source("hf://acme/secret@main")
    assert source.tensors()[0].read(0, 4).tobytes() == BODY[:4]
    assert server.token not in repr(source.provenance()) + repr(source.tensors())
    storage = [r for r in server.requests if r.path.startswith("/storage/")]
    assert storage, "large files are served from storage after a redirect"
    assert not any(r.authorization for r in storage), "the token does not follow to another host"


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("hf://acme/nothing@main", r"acme/nothing@main does not exist on this hub or is private"),
        ("hf://acme/whole@v9", r"has no such revision; name a branch, tag or 40-hex commit"),
        ("hf://acme/whole@main/none", r"has no such file or folder"),
        ("hf://acme/pickles@main", r"holds only pickles \(pytorch_model\.bin\), which are never loaded; convert it"),
        ("hf://acme/disguised@main", r"is a pickle, which is never loaded"),
        ("hf://acme", r"is not hf://org/name@revision"),
        ("hf://acme/whole@main/../x", r"has no '\.\.'"),
    ],
)
def test_what_cannot_be_read_is_explained(server: HubServer, uri: str, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence) as caught:
        open_source(uri)
    assert "\n" not in str(caught.value)


def test_dropped_connection_is_resumed_where_it_broke(server: HubServer) -> None:
    tensor = first()
    server.requests.clear()
    server.faults.append(Fault("model.safetensors", "drop", at=50_000, times=2))
    assert tensor.read(0, tensor.n_bytes).tobytes() == BODY
    starts = [int(r.range[6:].split("-")[0]) for r in server.requests if r.path.startswith("/storage/")]
    assert len(starts) == 3
    assert starts[0] < starts[1] < starts[2], "each try asks only for what is missing"


def test_busy_server_is_asked_again_and_a_dead_one_is_given_up(server: HubServer) -> None:
    tensor = first()
    server.faults.append(Fault("model.safetensors", "status", at=503, times=2))
    assert tensor.read(0, 100).tobytes() == BODY[:100]
    server.faults.append(Fault("model.safetensors", "status", at=503))
    with pytest.raises(SourceError, match=r"no complete answer in 5 tries \(status 503\)"):
        tensor.read(0, 100)


def test_short_answers_never_count_as_read(server: HubServer) -> None:
    tensor = first()
    server.faults.append(Fault("model.safetensors", "drop", at=0))
    with pytest.raises(SourceError, match="no complete answer in 5 tries"):
        tensor.read(0, 1000)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("long", r"sent more than the 1000 B asked"),
        ("shift", r"asked for bytes \d+-\d+ of \d+, the server answered"),
        ("size", r"asked for bytes .* the file changed or the mirror lies"),
        ("whole", r"answered 200 to a range"),
        ("tag", r"content changed since the file list was read"),
        ("commit", r"answered from commit 'ffff"),
    ],
)
def test_lying_server_is_found_out(server: HubServer, kind: str, sentence: str) -> None:
    tensor = first()
    server.faults.append(Fault("model.safetensors", kind))
    with pytest.raises(SourceError, match=sentence):
        tensor.read(0, 1000)


def test_content_that_changes_between_header_and_body_is_found_out(server: HubServer) -> None:
    tensor = first()
    server.repos["acme/whole"].files["model.safetensors"] = build({Q: ("BF16", [400, 300], BODY[::-1])})
    with pytest.raises(SourceError, match="content changed"):
        tensor.read(0, 1000)


def test_truncated_remote_file_is_refused_by_its_header(server: HubServer) -> None:
    server.repos["acme/cut"] = Repo({"model.safetensors": WHOLE[:-7]})
    with pytest.raises(SourceError, match="truncated"):
        open_source("hf://acme/cut@main")


def test_index_that_points_outside_or_contradicts_the_shards_is_refused(server: HubServer) -> None:
    for text, sentence in (
        (INDEX.replace(b"model-00002-of-00002", b"../model-00002-of-00002"), "bare .safetensors name"),
        (INDEX.replace(b"model-00002-of-00002", b"model-00003-of-00003"), "not in the repository"),
        (INDEX.replace(K.encode(), b"other"), "where it is not"),
    ):
        server.repos["acme/lying"] = Repo({**SHARDS, "model.safetensors.index.json": text})
        with pytest.raises(SourceError, match=sentence):
            open_source("hf://acme/lying@main")


def test_no_server_at_all_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"acme/whole@main cannot be reached .* check the network and HF_ENDPOINT"):
        open_source("hf://acme/whole@main")


def test_remote_tensor_is_fetched_once_for_many_reads(server: HubServer) -> None:
    tensor = first()
    ready = staged(tensor)
    before = len(server.requests)
    again = staged(tensor.with_cast("e4m3:scale=tensor"))
    assert ready.tensor.read(0, ready.tensor.n_bytes).tobytes() == BODY
    assert again.content_sha256 == ready.content_sha256
    assert again.tensor.format.name == "e4m3"
    assert len(server.requests) == before


def test_the_next_tensor_is_fetched_by_another_process(server: HubServer) -> None:
    """While this one does nothing but wait, as a worker whose compiled loop holds the interpreter."""
    [key, value] = open_source("hf://acme/sharded@main").tensors()
    before = len(server.requests)
    fetch_ahead(key)
    deadline_s = time.monotonic() + 30
    while len(server.requests) == before:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert staged(key).content_sha256 == key.content_sha256()
    server.faults.append(Fault("model-00002-of-00002.safetensors", "status", at=404))
    fetch_ahead(value)
    with pytest.raises(SourceError):  # as if it had not been tried
        staged(value)
    server.faults.clear()
    assert staged(value).content_sha256 == value.content_sha256()


def test_a_chain_of_tensors_is_fetched_ahead_one_by_one(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of one variant asks for the next before it looks at the one that was asked for."""
    [key, value] = open_source("hf://acme/sharded@main").tensors()
    monkeypatch.setattr(
        staging._STAGE, "_write", lambda tensor: pytest.fail(f"{tensor.name} was fetched in its turn")
    )
    staging._STAGE._kept.clear()
    fetch_ahead(key)
    fetch_ahead(value)
    for tensor in (key, value):
        assert staged(tensor).content_sha256 == tensor.content_sha256()


def test_local_snapshot_and_offline_mode(server: HubServer, tmp_path: Path) -> None:
    """The client reads its settings at import, so each mode is a process of its own."""
    program = (
        "import sys; from linepress.sources import open_source\n"
        "from linepress.errors import SourceError\n"
        "try:\n"
        "    s = open_source('hf://acme/sharded@main' + ('?local=true' if 'online' in sys.argv else ''))\n"
        "    print(s.revision, len(s.tensors()), s.tensors()[0].read(0, 4).tobytes().hex())\n"
        "except SourceError as error:\n"
        "    print('refused:', error)\n"
    )
    base = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env = {**base, "HF_HOME": str(tmp_path), "HF_ENDPOINT": server.endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}

    def run(*argv: str, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *argv], env={**env, **more}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    expected = f"{server.repos['acme/sharded'].commit} 2 {BODY[:4].hex()}"
    assert run(HF_HUB_OFFLINE="1").startswith(
        "refused: hf://acme/sharded@main is not in the local cache, and offline"
    )
    assert run("online") == expected
    asked = len(server.requests)
    assert run(HF_HUB_OFFLINE="1") == expected
    assert len(server.requests) == asked, "offline asks nobody"


def test_an_answer_shorter_than_its_range_is_asked_for_the_rest(server: HubServer) -> None:
    tensor = first()
    server.faults.append(Fault("model.safetensors", "short", times=2))
    assert tensor.read(0, 60_000).tobytes() == BODY[:60_000]
    server.faults.append(Fault("model.safetensors", "short"))
    with pytest.raises(SourceError, match=r"no complete answer in 5 tries \(it sent \d+ of 60000 B\)"):
        tensor.read(0, 60_000)


@pytest.mark.parametrize("off", [-8, 8])
def test_a_file_list_that_lies_about_sizes_is_found_out(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, off: int
) -> None:
    file = hub.HubFile
    monkeypatch.setattr(hub, "HubFile", lambda *a: file(*a[:5], a[5] + off, *a[6:]))
    with pytest.raises(SourceError, match=r"asked for bytes .* the file changed or the mirror lies"):
        open_source("hf://acme/whole@main")


def test_a_commit_that_is_none_is_refused(server: HubServer) -> None:
    server.repos["acme/odd"] = Repo({"model.safetensors": WHOLE}, commit="main")
    with pytest.raises(SourceError, match=r"the hub gave 'main' for a commit; use a hub or mirror that gives 40 hex"):
        open_source("hf://acme/odd@main")


def test_a_server_that_is_no_hub_is_one_sentence(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Handler, "_info", lambda self, name, repo: self._send(200, {}, b"<html>hello</html>", False))
    with pytest.raises(SourceError, match="does not speak as the hub does; check HF_ENDPOINT"):
        open_source("hf://acme/whole@main")


@pytest.mark.parametrize("fault", [Fault("model.safetensors", "drop", at=500), Fault("model.safetensors", "tag")])
def test_nothing_half_read_is_measured(server: HubServer, fault: Fault) -> None:
    body = fault.kind.encode() * 1000  # bytes of its own: this process keeps what other tests fetched
    body += bytes(-len(body) % 8000)
    file = build({Q: ("BF16", [len(body) // 2], body)})
    server.repos[f"acme/{fault.kind}"] = Repo({"model.safetensors": file})
    tensor = first(f"hf://acme/{fault.kind}@main")
    server.faults.append(fault)
    with pytest.raises(SourceError):
        measure_case(tensor, Variant.parse("raw"), repeats=0)
    server.faults.clear()
    row = measure_case(tensor, Variant.parse("raw"), repeats=0)
    assert row["raw_bytes"] == len(body), "what was left of the broken try is not taken for the tensor"
    assert row["content_sha256"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("revision", ["refs/pr/1", "refs%2Fpr%2F1", "refs/convert/parquet"])
@pytest.mark.parametrize("folder", ["", "/sub"])
def test_revisions_with_slashes(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, revision: str, folder: str
) -> None:
    asked: list[tuple[str, str]] = []

    def stop(endpoint: str, repo: str, kind: str, revision: str, folder: str, *, uri: str) -> object:
        asked.append((revision, folder))
        raise SourceError("seen")

    monkeypatch.setattr(hub, "list_files", stop)
    with pytest.raises(SourceError, match="seen"):
        open_source(f"hf://acme/whole@{revision}{folder}")
    assert asked == [(unquote(revision), folder.strip("/"))]


def test_a_repository_of_gguf_only_names_its_files_and_one_of_them_is_read(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        SourceError, match=r"holds GGUF only \(2 files.*name it: hf://acme/ggufs@main/m-00001-of-00002"
    ):
        open_source("hf://acme/ggufs@main")
    source = open_source("hf://acme/ggufs@main/m-00002-of-00002.gguf")
    assert [t.name for t in source.tensors()] == ["blk.0.attn_q.weight", "blk.1.attn_q.weight"]
    assert source.tensors()[1].read(0, 64).tobytes() == BODY[:64]
    assert source.revision == server.repos["acme/ggufs"].commit


def test_copies_of_the_same_weights_count_once(server: HubServer) -> None:
    source = open_source("hf://acme/twice@main")
    assert [t.name for t in source.tensors()] == [Q]
    assert source.left_out() == {"consolidated.safetensors": "the same weights as model.safetensors"}
