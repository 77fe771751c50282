"""From pack to verify: what a certificate proves, and that no altered one passes."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from linepress.errors import LinepressError
from linepress.records import RunStore
from linepress.sources import open_source
from linepress.stages.measure.case import measure_case
from linepress.submission.certificate import dsse
from linepress.submission.certificate.bundle import STATEMENT, read_bundle, write_bundle
from linepress.submission.certificate.issue import EXACT, TOTAL_COLUMNS, CertificateError, issue, totals
from linepress.submission.certificate.redaction import KEPT_COLUMNS
from linepress.submission.certificate.verify import _RERUN_COLUMNS, verify_bundle
from linepress.submission.check.ledger import exit_code
from linepress.submission.fixtures import build, edit, submission, weights
from linepress.submission.store import SubmissionStore
from linepress.submission.submit import check_submission
from linepress_codecs.variant import Variant

VARIANTS = ("huffman", "zstd:level=3:block=64KiB")


def record(path: Path, files: Path, *, skip: int = 0, status: str = "complete") -> Path:
    """A run of two codecs over every tensor of a submission, as the suite runner records it."""
    store = RunStore.create(
        path,
        {"run_id": path.name, "status": status, "suite": {"name": "s", "text": "name: s\n", "sha256": "0" * 64}},
    )
    rows = [
        {**measure_case(tensor, Variant.parse(spec), packings=("slots:slot=48",), repeats=0, seed=3), "case_key": key}
        for tensor in open_source(str(files)).tensors()[skip:]
        for spec in VARIANTS
        if (key := f"{tensor.name}/{spec}")
    ]
    store.append("measure", [{**row, "status": "ok"} for row in rows])
    store.manifest.update(counts={"measure": {"planned": len(rows), "ok": len(rows)}}, exit_code=0)
    store.save_manifest()
    return path


@dataclass
class Way:
    """A submission, accepted, run and certified."""

    folder: Path
    accepted: Path
    run: Path
    key: Path
    bundle: Path

    @property
    def public(self) -> list[dsse.Ed25519PublicKey]:
        return [dsse.load_public(self.key.with_name("key.pub").read_bytes(), "key")]


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Way:
    base = tmp_path_factory.mktemp("way")
    files = {"model.safetensors": _model()}
    folder = submission(base, files)
    accepted = SubmissionStore(base / "store").accept(check_submission(folder))
    run = record(base / "run", accepted / "files")
    key = dsse.new_key(base / "key")
    bundle = base / "tiny.lpcert"
    bundle.write_bytes(issue(accepted, run, key).bundle)
    return Way(folder, accepted, run, base / "key", bundle)


def _model() -> bytes:
    return build({"a": ("BF16", [16, 16], weights(1)), "b": ("BF16", [8, 32], weights(2))})


def verdicts(path: Path, way: Way, rerun: Path | None = None) -> dict[str, str]:
    return {f.rule: f.verdict for f in verify_bundle(path, way.public, rerun)[0]}


def test_the_whole_way_holds_and_reproduces(way: Way) -> None:
    findings, statement = verify_bundle(way.bundle, way.public, way.folder)
    assert exit_code(findings) == 0, [f.line for f in findings]
    assert statement is not None
    assert statement["predicate"]["coverage"] == {"distinct_tensors": 2, "measured": 2, "without_format": 0}
    assert statement["predicate"]["totals"]["huffman"]["ok"] == 2
    assert set(statement["predicate"]["rules"].values()) == {"PASS"}


def test_the_same_content_gives_the_same_bundle(way: Way) -> None:
    assert issue(way.accepted, way.run, dsse.load_private(way.key)).bundle == way.bundle.read_bytes()


HOST, WORKER, ADDRESS = "build7.internal", "node-3", "ray://10.1.2.3:10001"


@pytest.fixture
def telling(way: Way, tmp_path: Path) -> Path:
    """A run whose record names hosts, a cluster and folders wherever one can."""
    run = record(tmp_path / "secret place" / "run", way.accepted / "files")
    store = RunStore.open(run)
    row = store.rows("measure")[0]
    told = f"OSError: {run}/tables: no space on {HOST}, asked by /home/jo/bin/linepress; see https://a.example/b/c"
    failed = {**row, "case_key": "x", "status": "failed", "lossless": None, "error": told}
    store.append("measure", [{**failed, "host": WORKER, "source": str(run.parent / "in put" / "m.safetensors")}])
    store.append("measure", [{**failed, "case_key": "y", "host": HOST, "source": "/srv/other data/m.safetensors"}])
    store.manifest.update(
        machine={"host": HOST, "cpu": "EPYC", "cores": 2},
        cluster={"address": ADDRESS, "nodes": 2},
        sessions=[{"host": WORKER, "command": ["run", "/home/jo/suite.yaml", f"--ray-address={ADDRESS}"]}],
        arguments={"given": ["run"], "resolved": {"ray_address": ADDRESS, "out": str(run)}},
        sources=[{"uri": str(way.accepted / "files"), "label": HOST}],
        suite={"name": "s", "path": "/home/jo/suite.yaml", "text": f"name: s\n# {run}\n", "sha256": "0" * 64},
    )
    store.save_manifest()
    (run / "report").mkdir()
    (run / "report" / "index.html").write_text(
        f"<p>{HOST.upper()} node-3 of prose</p><pre>uri: {way.accepted / 'files'}</pre><p>{told}</p>"
        f"<dl><div><dt>hosts</dt><dd>{HOST}, {WORKER}</dd></div></dl>",
        encoding="utf-8",
    )
    return run


def test_host_names_and_folders_of_the_operator_are_not_told(way: Way, telling: Path, tmp_path: Path) -> None:
    issued = issue(way.accepted, telling, dsse.load_private(way.key))
    path = tmp_path / "told.lpcert"
    path.write_bytes(issued.bundle)
    entries = read_bundle(path)
    before = RunStore.open(telling).table("measure")
    after = pq.read_table(pa.BufferReader(entries["tables/measure.parquet"]))
    texts = {name: data.decode() for name, data in entries.items() if not name.endswith(".parquet")}
    texts["statement"] = json.dumps(issued.statement)
    texts["measure"] = json.dumps(after.to_pylist(), default=str)
    for name, text in texts.items():
        for told in (HOST, ADDRESS, str(tmp_path), str(way.accepted), "/home/jo", "/srv/", "secret place"):
            assert told not in text, f"{name} tells {told}"
        assert name == "report.html" or WORKER not in text, f"{name} tells {WORKER}"
    assert "<dd>operator, operator-2</dd>" in texts["report.html"]
    assert "node-3 of prose" in texts["report.html"]  # no word of the text is taken for a host
    record_ = json.loads(entries["run.json"])
    assert (record_["machine"]["host"], record_["sessions"][0]["host"]) == ("operator", "operator-2")
    assert record_["sessions"][0]["command"] == ["run", "suite.yaml", "--ray-address=cluster"]
    assert json.loads(entries["environment.json"])["machine"] == {"host": "operator", "cpu": "EPYC", "cores": 2}
    errors = {row["case_key"]: (row["host"], row["source"], row["error"]) for row in after.to_pylist()}
    says = "OSError: tables: no space on operator, asked by linepress; see https://a.example/b/c"
    assert errors["x"] == ("operator-2", "in put/m.safetensors", says)
    assert errors["y"] == ("operator", "m.safetensors", says)
    for column in sorted({*EXACT, *_RERUN_COLUMNS}):
        assert after[column].to_pylist() == before[column].to_pylist(), column
    assert after.schema.equals(before.schema)


def test_what_is_not_told_is_reproduced_all_the_same(way: Way, telling: Path, tmp_path: Path) -> None:
    key = dsse.load_private(way.key)
    path = tmp_path / "told.lpcert"
    path.write_bytes(issue(way.accepted, telling, key).bundle)
    assert set(verdicts(path, way, way.folder).values()) == {"PASS"}
    assert issue(way.accepted, telling, key).bundle == path.read_bytes()


def test_no_column_that_verifying_reads_can_be_redacted() -> None:
    assert {*EXACT, *_RERUN_COLUMNS, *TOTAL_COLUMNS} <= KEPT_COLUMNS


def test_a_stranger_is_undecided_and_an_impostor_fails(way: Way, tmp_path: Path) -> None:
    assert exit_code(verify_bundle(way.bundle)[0]) == 2
    other = dsse.new_key(tmp_path / "other").public_key()
    assert {f.rule: f.verdict for f in verify_bundle(way.bundle, [other])[0]}["signer"] == "FAIL"


@pytest.mark.threat("a certificate that was altered, or signed by an impostor")
def test_the_embedded_key_is_not_believed(way: Way, tmp_path: Path) -> None:
    # An impostor signs everything anew and puts the trusted public key into the bundle.
    entries = read_bundle(way.bundle)
    impostor = dsse.new_key(tmp_path / "impostor")
    statement = json.loads(base64.b64decode(json.loads(entries[STATEMENT])["payload"]))
    entries[STATEMENT] = dsse.sign(statement, impostor)
    path = tmp_path / "forged.lpcert"
    path.write_bytes(write_bundle(entries))
    assert verdicts(path, way)["signature"] == "FAIL"


@pytest.mark.parametrize(
    "name", ["manifest.yaml", "verdict.json", "tables/measure.parquet", "run.json", "suite.yaml"]
)
def test_an_altered_entry_is_found(name: str, way: Way, tmp_path: Path) -> None:
    entries = read_bundle(way.bundle)
    data = bytearray(entries[name])
    data[len(data) // 2] ^= 1
    path = tmp_path / "altered.lpcert"
    path.write_bytes(write_bundle({**entries, name: bytes(data)}))
    assert verdicts(path, way)["hashes"] == "FAIL"
    del entries[name]
    path.write_bytes(write_bundle(entries))
    assert "FAIL" in verdicts(path, way).values()


def test_an_added_entry_is_found(way: Way, tmp_path: Path) -> None:
    path = tmp_path / "added.lpcert"
    path.write_bytes(write_bundle({**read_bundle(way.bundle), "tables/claims.parquet": b"x"}))
    assert verdicts(path, way)["hashes"] == "FAIL"


@pytest.mark.threat("a certificate that was altered, or signed by an impostor")
def test_every_byte_of_the_bundle_counts(way: Way, tmp_path: Path) -> None:
    raw = way.bundle.read_bytes()
    path = tmp_path / "flipped.lpcert"
    for at in range(0, len(raw), max(1, len(raw) // 150)):
        data = bytearray(raw)
        data[at] ^= 1
        path.write_bytes(bytes(data))
        assert exit_code(verify_bundle(path, way.public)[0]) == 1, f"bit flipped at byte {at}"
    for end in range(0, len(raw), max(1, len(raw) // 50)):
        path.write_bytes(raw[:end])
        assert exit_code(verify_bundle(path, way.public)[0]) == 1, f"cut at byte {end}"
    path.write_bytes(raw + b"more")
    assert exit_code(verify_bundle(path, way.public)[0]) == 1


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.yaml", bytes(64 << 20))


def _climbs(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil", b"x")


def _nothing(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.threat("a bomb in place of a certificate")
@pytest.mark.parametrize("make", [_bomb, _climbs, _nothing])
def test_what_is_no_bundle_is_refused(make: Callable[[Path], None], way: Way, tmp_path: Path) -> None:
    path = tmp_path / "evil.lpcert"
    make(path)
    assert verdicts(path, way)["container"] == "FAIL"
    assert not (tmp_path.parent / "evil").exists()


def test_results_that_do_not_reproduce_are_found_by_the_rerun(way: Way, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(way.run, run)
    part = next((run / "tables" / "measure").glob("*.parquet"))
    table = pq.ParquetFile(part).read()
    at = table.column_names.index("payload_bits")
    wrong = pa.array([value - 1 for value in table["payload_bits"].to_pylist()], pa.int64())
    pq.write_table(table.set_column(at, table.field(at), wrong), part)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["parts"] = {name: hashlib.sha256((part).read_bytes()).hexdigest() for name in manifest["parts"]}
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    path = tmp_path / "wrong.lpcert"
    path.write_bytes(issue(way.accepted, run, dsse.load_private(way.key)).bundle)
    found = verdicts(path, way, way.folder)
    assert found["consistency"] == "PASS"
    assert found["rerun"] == "FAIL"


def test_the_rerun_is_of_the_files_that_were_certified(way: Way, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(way.folder, other)
    data = bytearray((other / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (other / "model.safetensors").write_bytes(bytes(data))
    assert verdicts(way.bundle, way, other)["rerun"] == "FAIL"
    (other / "model.safetensors").unlink()
    assert verdicts(way.bundle, way, other)["rerun"] == "FAIL"


def test_only_a_whole_run_of_this_submission_is_certified(way: Way, tmp_path: Path) -> None:
    key = dsse.load_private(way.key)
    with pytest.raises(CertificateError, match="1 of 2 tensors"):
        issue(way.accepted, record(tmp_path / "part", way.accepted / "files", skip=1), key)
    with pytest.raises(CertificateError, match="interrupted"):
        issue(way.accepted, record(tmp_path / "cut", way.accepted / "files", status="interrupted"), key)
    other = submission(tmp_path / "other", {"model.safetensors": build({"a": ("BF16", [16, 16], weights(1))})})
    with pytest.raises(CertificateError, match="not of the submission"):
        issue(other, way.run, key)
    refused = submission(tmp_path / "refused", {"model.safetensors": _model()})
    edit(refused, "redistribution: true", "redistribution: false")
    with pytest.raises(CertificateError, match="refused"):
        issue(refused, way.run, key)


def test_a_store_that_was_tampered_with_is_not_certified(way: Way, tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(way.accepted, copy)
    target = copy / "files" / "model.safetensors"
    target.chmod(0o644)
    target.write_bytes(target.read_bytes()[:-1] + b"!")
    with pytest.raises(CertificateError, match="not what was accepted"):
        issue(copy, way.run, dsse.load_private(way.key))


def test_dsse_vector() -> None:
    # The example of the DSSE specification, protocol.md.
    assert dsse.pre_authentication("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_keys(tmp_path: Path) -> None:
    key = dsse.new_key(tmp_path / "k")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert dsse.key_id(dsse.load_private(tmp_path / "k").public_key()) == dsse.key_id(key.public_key())
    with pytest.raises(LinepressError, match="never overwritten"):
        dsse.new_key(tmp_path / "k")
    with pytest.raises(LinepressError, match="not a PEM public key"):
        dsse.load_public(b"nonsense", "file")
    with pytest.raises(LinepressError, match="PEM private key"):
        dsse.load_private(tmp_path / "k.pub")


def test_totals_count_what_failed() -> None:
    numbers = {"raw_bytes": 8, "payload_bits": 64, "packed_bytes": 8}
    good = {"status": "ok", "variant": "raw", "cast": "", "lossless": True, **numbers}
    bad = {**good, "status": "failed", "lossless": None, **dict.fromkeys(numbers)}
    assert totals([good, bad]) == {"raw": {"ok": 1, "not_ok": 1, "lossless": 1, **numbers}}
