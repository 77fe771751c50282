"""Certificates: what was validated, with which result, signed, in one file that can be checked anywhere.

The statement (in-toto Statement v1) names every file of the bundle and every file of the submission by sha256; its
predicate holds the verdict of the rules, the outcome of the run and the totals of the results. The host that ran it
and its folders are not told: see `redaction`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linepress.errors import LinepressError
from linepress.submission.certificate.bundle import SIGNER, STATEMENT, write_bundle
from linepress.submission.certificate.dsse import public_pem, sign
from linepress.submission.certificate.materials import bill_of_materials
from linepress.submission.certificate.redaction import NOTE, Redaction, hosts_of
from linepress.submission.certificate.statement import (
    EXACT,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    TOTAL_COLUMNS,
    totals,
)
from linepress.submission.check.limits import MANIFEST_NAME
from linepress.submission.hashes import sha256_of
from linepress.submission.report import render_page
from linepress.submission.store import VERDICT
from linepress.submission.submit import check_submission

if TYPE_CHECKING:
    import pyarrow as pa
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from linepress.records import RunStore

__all__ = ["EXACT", "TOTAL_COLUMNS", "CertificateError", "Issued", "issue", "judged", "totals"]

ENVIRONMENT_PARTS = ("git", "packages", "machine", "cluster", "seeds", "redacted")
"""Keys of ``run.json`` that ``environment.json`` repeats."""


class CertificateError(LinepressError):
    """A submission or a run that cannot be certified."""

    exit_code = 1


@dataclass(frozen=True)
class Issued:
    """A certificate.

    Attributes
    ----------
    bundle : bytes
    statement : dict
        What was signed.
    """

    bundle: bytes
    statement: dict[str, Any]


def issue(
    folder: Path,
    run: Path,
    key: Ed25519PrivateKey,
    *,
    waivers: Iterable[str] = (),
    audit: Mapping[str, Any] | None = None,
) -> Issued:
    """Certify the run of a submission.

    Parameters
    ----------
    folder : Path
        The submission: as packed (it is checked again), or a folder of the store of accepted ones.
    run : Path
        Run folder of a complete run over this submission's tensors alone.
    key : Ed25519PrivateKey
    waivers : iterable of str
        Licence waivers that have been granted.
    audit : mapping | None
        ``head`` and ``entries`` of the issuing service's audit log, where there is one.

    Raises `CertificateError` when the submission does not pass, when the run is not complete, when it measured other
    bytes, or when a tensor of the submission was not measured.
    """
    from linepress.records import RunStore
    from linepress.records.schema import TABLES

    document, files = judged(folder, tuple(waivers))
    manifest = document["manifest"]
    if document["exit_code"] != 0 or manifest is None:
        raise CertificateError(f"{folder}: {document['verdict']}; see linepress submit {folder}")
    store = RunStore.open(run)
    store.verify()
    if store.manifest.get("status") != "complete":
        raise CertificateError(f"{run}: the run is {store.manifest.get('status')}; give its command again")
    coverage = _coverage(files, store)
    manifest_bytes = (files / MANIFEST_NAME).read_bytes()
    if _sha256(manifest_bytes) != document["manifest_sha256"]:
        raise CertificateError(f"{folder}: the manifest changed while it was being certified; keep it still")
    name = f"{manifest['submitter']}/{manifest['name']}"
    document = {**document, "folder": name}
    found = {table: store.table(table) for table in TABLES}
    redaction = Redaction(store.manifest, (run, run.parent, files, folder), hosts_of(found.values()))
    record = {**redaction.document(store.manifest), "redacted": NOTE}
    entries = {
        MANIFEST_NAME: manifest_bytes,
        "verdict.json": _json(document),
        "verdict.html": render_page(document, name).encode(),
        "run.json": _json(record),
        "environment.json": _json({part: record.get(part) for part in ENVIRONMENT_PARTS}),
        "suite.yaml": str((record.get("suite") or {}).get("text", "")).encode(),
        SIGNER: public_pem(key.public_key()),
        **{f"tables/{table}.parquet": _parquet(redaction.table(rows)) for table, rows in found.items() if len(rows)},
    }
    materials = bill_of_materials()
    if materials is not None:
        entries["bom.json"] = materials
    page = run / "report" / "index.html"
    if page.is_file():
        entries["report.html"] = redaction.page(page.read_text(encoding="utf-8")).encode()
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": entry, "digest": {"sha256": _sha256(data)}} for entry, data in sorted(entries.items())]
        + [
            {"name": f"submission/{file['path']}", "digest": {"sha256": file["sha256"]}}
            for file in sorted(document["files"], key=lambda file: str(file["path"]))
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "submission": {
                "submitter": manifest["submitter"],
                "name": manifest["name"],
                "manifest_sha256": document["manifest_sha256"],
                "source": manifest["source"],
            },
            "rules": {finding["rule"]: finding["verdict"] for finding in document["findings"]},
            "run": {
                "run_id": store.run_id,
                "suite_sha256": (store.manifest.get("suite") or {}).get("sha256"),
                "exit_code": store.manifest.get("exit_code"),
                "updated_at": store.manifest.get("updated_at"),
                "counts": store.manifest.get("counts"),
            },
            "coverage": coverage,
            "totals": totals(store.rows("measure", list(TOTAL_COLUMNS))),
            **({"audit": dict(audit)} if audit is not None else {}),
        },
    }
    return Issued(write_bundle({**entries, STATEMENT: sign(statement, key)}), statement)


def judged(folder: Path, waivers: tuple[str, ...] = ()) -> tuple[dict[str, Any], Path]:
    """The verdict on a submission and the folder of its files.

    For an accepted submission (a folder of `SubmissionStore`) that is the verdict kept with it, once its files are
    found to be those of the verdict; for any other folder it is checked now.
    """
    if (folder / VERDICT).is_file() and (folder / "files").is_dir():
        document: dict[str, Any] = json.loads((folder / VERDICT).read_text(encoding="utf-8"))
        for file in document["files"]:
            if sha256_of(folder / "files" / file["path"]) != file["sha256"]:
                raise CertificateError(f"{folder}: {file['path']!r} is not what was accepted; restore the store")
        return document, folder / "files"
    report = check_submission(folder, waivers=waivers)
    return {**report.document(), "manifest": report.manifest}, folder


def _coverage(folder: Path, store: RunStore) -> dict[str, int]:
    """Distinct tensors of the submission, those that the run measured under some variant, and those of dtypes without
    an element format (BOOL, 64-bit types), which no codec takes."""
    from linepress.sources import open_source

    source = open_source(str(folder))
    tensors = {tensor.content_sha256() for tensor in source.tensors()}
    rows = store.rows("measure", ["content_sha256", "status", "tensor"])
    measured = {row["content_sha256"] for row in rows if row["status"] == "ok"}
    if foreign := measured - tensors:
        other = next(row["tensor"] for row in rows if row["content_sha256"] in foreign)
        raise CertificateError(
            f"{store.path}: measured tensors that are not of the submission ({str(other)[:80]!r}); run the suite on "
            "the submission alone"
        )
    if missing := tensors - measured:
        raise CertificateError(
            f"{store.path}: {len(missing)} of {len(tensors)} tensors of the submission were not measured; run a "
            "suite that takes them all"
        )
    return {"distinct_tensors": len(tensors), "measured": len(measured), "without_format": len(source.skipped())}


def _parquet(table: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=True, default=str).encode() + b"\n"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
