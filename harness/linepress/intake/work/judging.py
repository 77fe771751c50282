"""The verdict document of a finished run, written beside it: what `verdict` says, with the tables a page shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linepress.intake.http.views import certificate_path
from linepress.intake.settings import PRIVATE_KEY, Settings
from linepress.intake.work import verdict
from linepress.intake.work.places import Place, tensor_files
from linepress.records.files import write_atomically
from linepress.records.schema import TABLES
from linepress.records.store import RunStore
from linepress.records.summary import headline, measured
from linepress.submission.certificate.redaction import Redaction, hosts_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Row = dict[str, Any]
VERDICT = "verdict.json"


def judge(place: Place, check: Row, exit_code: int) -> Row:
    """Read the record of the run and write ``verdict.json``; returns the document.

    Raises `RecordError` where there is no record, or it is damaged.
    """
    store = RunStore.open(place.run)
    store.verify()
    rows = store.rows("measure", list(verdict.MEASURE_COLUMNS))
    manifest = check["manifest"]
    reproduced = any(f["rule"] == "S17" and f["verdict"] == "PASS" for f in check["findings"])
    folder = str(place.files.relative_to(place.path))
    figures = verdict.compared(manifest["expected"], rows, folder, reproduced)
    claims = _claims_on_data(store)
    lines = [
        verdict.completeness(str(store.manifest.get("status")), store.manifest.get("counts") or {}),
        verdict.losslessness(rows, int(check["tensors"])),
        verdict.expectation(figures),
    ]
    validated, reason = verdict.outcome(lines)
    ratios = headline(measured(store))
    head = verdict.leading(ratios)
    document: Row = {
        "validated": validated,
        "reason": reason,
        "lines": lines,
        "exit_code": exit_code,
        "run_id": store.run_id,
        "suite": {key: (store.manifest.get("suite") or {}).get(key) for key in ("name", "version", "sha256")},
        "seeds": store.manifest.get("seeds"),
        "counts": store.manifest.get("counts"),
        "data_format": head["format"] if head else None,
        "packed_ratio": head["packed_ratio"] if head else None,
        "ratios": ratios,
        "expected": figures,
        "claims": [claim for claim in claims if claim["verdict"] != "not checkable"],
        "claims_not_checkable": sum(claim["verdict"] == "not checkable" for claim in claims),
        "channel": _picked(store, "channel", verdict.CHANNEL_COLUMNS),
        "system": _picked(store, "system", verdict.SYSTEM_COLUMNS),
        "files": tensor_files(check["files"]),
        "place": None,
        "certificate": None,
    }
    write(place.path, document)
    write_report(place, store, document)
    return document


def _claims_on_data(store: RunStore) -> list[Row]:
    """Published claims that the partner's tensors speak to; those about racks and links are the same for all."""
    from linepress.claims.model import BlockTime, ChannelGain, CodecAdvantage, CodecRatio, load_claims

    on_data = (BlockTime, ChannelGain, CodecAdvantage, CodecRatio)
    wanted = {claim.id for claim in load_claims().claims if isinstance(claim.check, on_data)}
    return [row for row in store.rows("claims", list(verdict.CLAIM_COLUMNS)) if row["claim_id"] in wanted]


def _picked(store: RunStore, table: str, columns: Sequence[str]) -> list[Row]:
    return verdict.picked(store.rows(table, ["status", *columns]), columns)


def write_report(place: Place, store: RunStore, document: Row) -> None:
    """The run's report as its partner may see it: whose and what it is, claims that did not come true, no host, and
    tables that scroll by themselves where the window is narrow."""
    source = place.run / "report" / "index.html"
    if not source.is_file():
        return
    tables = [store.table(name) for name in TABLES]
    redaction = Redaction(store.manifest, (place.run, place.path, place.files), hosts_of(tables))
    redaction.document(store.manifest)
    for table in tables:
        redaction.table(table)
    page = redaction.page(source.read_text(encoding="utf-8"))
    missed = missed_claims(document)
    said = f"{place.row['partner']}/{place.row['name']}: {'validated' if document['validated'] else 'rejected'}"
    said += f"; {missed} published claims were not reproduced on this data" if missed else ""
    style = "<style>table{display:block;max-width:100%;overflow-x:auto}</style>"
    page = page.replace("</head>", f"{style}</head>", 1)
    page = page.replace("<h1", f'<p id="submission"><strong>{escape(said)}</strong></p><h1', 1)
    write_atomically(place.path / "report.html", page.encode())


def missed_claims(document: Row) -> int:
    """Published claims that a submission's data speaks to and did not bear out."""
    return sum(claim["verdict"] == "not reproduced" for claim in document["claims"])


def write(folder: Path, document: Row) -> None:
    """Write ``verdict.json`` whole or not at all."""
    write_atomically(folder / VERDICT, json.dumps(document, indent=1).encode() + b"\n")


def certify(place: Place, waivers: Sequence[str] = (), audit: Row | None = None) -> str:
    """Sign what was validated, under the ``waivers`` that hold for the partner, with the ``audit`` log's head.

    Returns the sha256 of the bundle.

    Raises `LinepressError` where the submission or the run cannot be certified.
    """
    from linepress.submission.certificate.issue import issue

    issued = issue(place.files, place.run, signing_key(place.settings), waivers=waivers, audit=audit)
    write_atomically(certificate_path(place.settings, str(place.row["id"])), issued.bundle)
    return hashlib.sha256(issued.bundle).hexdigest()


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """The service's key, made on first use: give the file of an existing one its place to sign with that."""
    from linepress.submission.certificate.dsse import load_private, new_key

    path = settings.data / PRIVATE_KEY
    return load_private(path) if path.exists() else new_key(path)
