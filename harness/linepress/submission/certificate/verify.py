"""``linepress verify``: what a certificate proves, checked anywhere, and its bytes measured again.

Checks, in order; none stops the others but where the next would stand on nothing:
container (only known entries, no byte besides), signature, signer (a key the reader trusts), hashes (every entry is
what the statement names, none is missing or extra), consistency (manifest, rules, totals agree with the entries),
and with a submission at hand its files and the re-run.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linepress.errors import LinepressError
from linepress.submission.certificate.bundle import SIGNER, STATEMENT, read_bundle
from linepress.submission.certificate.dsse import SignatureError, key_id, load_public, open_envelope
from linepress.submission.certificate.statement import (
    EXACT,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    TOTAL_COLUMNS,
    totals,
)
from linepress.submission.check.ledger import Finding, Ledger, name_of
from linepress.submission.check.limits import MANIFEST_NAME
from linepress.submission.check.manifest import ManifestError, parse_manifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

CHECKS = ("container", "signature", "signer", "hashes", "consistency", "rerun")
_SUBMITTED = "submission/"


def verify_bundle(
    path: Path, trusted: Sequence[Ed25519PublicKey] = (), rerun: Path | None = None, most_rows: int | None = None
) -> tuple[list[Finding], dict[str, Any] | None]:
    """Check a certificate.

    Parameters
    ----------
    path : Path
        The bundle.
    trusted : sequence of Ed25519PublicKey
        Keys that the reader trusts; without one the signer stays undecided.
    rerun : Path | None
        Folder with the submission's files; every measured row is then measured again.
    most_rows : int | None
        Re-run only the first so many rows, in the order of their case keys.

    Returns
    -------
    findings, statement
        One finding for each of `CHECKS`, and what was signed (None when the signature does not hold).
    """
    ledger = Ledger(CHECKS)
    try:
        entries = read_bundle(path)
    except LinepressError as error:
        if not path.exists():
            raise
        ledger.fail("container", str(error))
        return ledger.findings(), None
    missing = [name for name in (STATEMENT, SIGNER, MANIFEST_NAME, "tables/measure.parquet") if name not in entries]
    if missing:
        ledger.fail("container", f"{missing[0]} is missing")
        return ledger.findings(), None
    ledger.saw("container", f"{len(entries)} entries, nothing besides")
    statement = _signature(entries, trusted, ledger)
    if statement is None:
        return ledger.findings(), None
    _hashes(entries, statement, ledger)
    if ledger.failed("hashes", "signer"):
        # Results are Parquet, and no parser is shown what a stranger wrote.
        for check in ("consistency", "rerun"):
            ledger.doubt(check, "not looked into before signer and hashes hold")
        return ledger.findings(), statement
    _consistency(entries, statement, ledger)
    if rerun is None:
        ledger.saw("rerun", "not asked for (--rerun FOLDER measures the bytes again)")
    else:
        _rerun(entries, statement, rerun, most_rows, ledger)
    return ledger.findings(), statement


def _signature(
    entries: Mapping[str, bytes], trusted: Sequence[Ed25519PublicKey], ledger: Ledger
) -> dict[str, Any] | None:
    try:
        embedded = load_public(entries[SIGNER], SIGNER)
    except LinepressError as error:
        ledger.fail("signature", str(error))
        return None
    mine = {key_id(key): key for key in trusted}
    # A trusted key is used as it is known here; the one in the bundle only says which it is.
    key = mine.get(key_id(embedded), embedded)
    try:
        statement = open_envelope(entries[STATEMENT], key)
    except SignatureError as error:
        ledger.fail("signature", str(error))
        return None
    ledger.saw("signature", f"Ed25519 by key {key_id(key)}")
    if key_id(embedded) in mine:
        ledger.saw("signer", "a key you trust")
    elif trusted:
        ledger.fail("signer", f"key {key_id(embedded)} is none of those you trust")
    else:
        ledger.doubt(
            "signer", f"key {key_id(embedded)} proves nothing until you trust it: give it with --key FILE.pub"
        )
    return statement


def _hashes(entries: Mapping[str, bytes], statement: Mapping[str, Any], ledger: Ledger) -> None:
    named = _subjects(statement)
    inside = {name: digest for name, digest in named.items() if not name.startswith(_SUBMITTED)}
    for name in sorted(inside.keys() | entries.keys() - {STATEMENT}):
        if name not in entries:
            ledger.fail("hashes", f"{name_of(name)} was signed and is not in the bundle")
        elif name not in inside:
            ledger.fail("hashes", f"{name_of(name)} is in the bundle and was not signed")
        elif hashlib.sha256(entries[name]).hexdigest() != inside[name]:
            ledger.fail("hashes", f"{name_of(name)} is not what was signed")
    ledger.saw("hashes", f"{len(inside)} entries are what was signed")


def _subjects(statement: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {str(part["name"]): str(part["digest"]["sha256"]) for part in statement["subject"]}
    except (KeyError, TypeError):
        return {}


def _consistency(entries: Mapping[str, bytes], statement: Mapping[str, Any], ledger: Ledger) -> None:
    if statement.get("_type") != STATEMENT_TYPE or statement.get("predicateType") != PREDICATE_TYPE:
        ledger.fail("consistency", "the statement is not a validation certificate of this version")
        return
    predicate = statement["predicate"]
    digest = hashlib.sha256(entries[MANIFEST_NAME]).hexdigest()
    if predicate["submission"]["manifest_sha256"] != digest:
        ledger.fail("consistency", "the manifest in the bundle is not the one that was validated")
    try:
        manifest = parse_manifest(entries[MANIFEST_NAME])
    except ManifestError as error:
        ledger.fail("consistency", str(error))
        return
    if (manifest.submitter, manifest.name) != (predicate["submission"]["submitter"], predicate["submission"]["name"]):
        ledger.fail("consistency", "the statement names another submission than the manifest")
    listed = {f"{_SUBMITTED}{entry.path}": entry.sha256 for entry in manifest.files}
    signed = {name: sha for name, sha in _subjects(statement).items() if name.startswith(_SUBMITTED)}
    if listed != signed:
        ledger.fail("consistency", "the files that were signed are not those of the manifest")
    verdict = json.loads(entries["verdict.json"])
    if {finding["rule"]: finding["verdict"] for finding in verdict["findings"]} != predicate["rules"]:
        ledger.fail("consistency", "the verdict in the bundle is not the one that was signed")
    if set(predicate["rules"].values()) != {"PASS"}:
        ledger.fail("consistency", "a rule does not pass")
    rows = _rows(entries, list(TOTAL_COLUMNS))
    if totals(rows) != predicate["totals"]:
        ledger.fail("consistency", "the totals that were signed are not the sums of the results")
    ledger.saw("consistency", f"{len(rows)} results, their sums, the manifest and the verdict agree")


def _rows(entries: Mapping[str, bytes], columns: list[str]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    # one thread: a few thousand rows need no more, and no thread is then left to be ended at exit
    source = io.BytesIO(entries["tables/measure.parquet"])
    table = pq.ParquetFile(source, pre_buffer=False).read(columns, use_threads=False)
    return [dict(row) for row in table.to_pylist(maps_as_pydicts="strict")]


def _rerun(
    entries: Mapping[str, bytes], statement: Mapping[str, Any], folder: Path, most_rows: int | None, ledger: Ledger
) -> None:
    """Measure again what was measured, on the files that were signed."""
    from linepress.submission.hashes import sha256_of

    for name, digest in sorted(_subjects(statement).items()):
        if name.startswith(_SUBMITTED):
            path = folder / name.removeprefix(_SUBMITTED)
            if path.is_symlink() or not path.is_file():
                ledger.fail("rerun", f"{name_of(str(path), 200)} is not there")
            elif sha256_of(path) != digest:
                ledger.fail("rerun", f"{name_of(str(path), 200)} is not the file that was certified")
    if ledger.failed("rerun"):
        return
    compared = compare(_rows(entries, [*_RERUN_COLUMNS, *EXACT]), folder, most_rows, ledger)
    ledger.saw("rerun", f"{compared} results reproduced to the bit")


_RERUN_COLUMNS = ("case_key", "status", "tensor", "variant", "cast", "packings", "seed")


def compare(rows: Sequence[Mapping[str, Any]], folder: Path, most_rows: int | None, ledger: Ledger) -> int:
    """Measure each ok row again and hold its exact columns against what the certificate says; how many were."""
    from linepress.sources import TensorRef, open_source
    from linepress.stages.measure.case import measure_case
    from linepress_codecs.variant import Variant

    tensors: dict[str, TensorRef] = {}
    for one in open_source(str(folder)).tensors():
        tensors.setdefault(one.content_sha256(), one)
    wanted = sorted((row for row in rows if row["status"] == "ok"), key=lambda row: str(row["case_key"]))[:most_rows]
    if not wanted:
        ledger.fail("rerun", "there is no result to reproduce")
    for row in wanted:
        label = f"{name_of(row['tensor'])} under {name_of(row['variant'])}"
        tensor = tensors.get(row["content_sha256"])
        if tensor is None:
            ledger.fail("rerun", f"{label}: no tensor of the submission has these bytes")
            continue
        packings = [cost["packing"] for cost in row["packings"] or () if cost["packing"] != "blocks"]
        again = measure_case(
            tensor.with_cast(row["cast"] or ""),
            Variant.parse(row["variant"]),
            packings=packings,
            repeats=0,
            seed=int(row["seed"] or 0),
        )
        for column in EXACT:
            if again[column] != row[column]:
                ledger.fail(
                    "rerun", f"{label}: {column} is certified as {row[column]} and comes out as {again[column]}"
                )
        costs = {cost["packing"]: cost["packed_bytes"] for cost in again["packings"]}
        for cost in row["packings"] or ():
            if costs.get(cost["packing"]) != cost["packed_bytes"]:
                ledger.fail(
                    "rerun", f"{label}: packed_bytes under {name_of(cost['packing'])} does not come out again"
                )
    return len(wanted)
