"""What a parser of hostile bytes must never do, whatever the bytes: for fuzzing and for replaying what fuzzing found.

Each oracle returns the breaches it saw, as sentences; nothing is a breach when the bytes are only refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from linepress.sources.safetensors.header import SafetensorsError, header_length, parse_header
from linepress.submission.check.header import HeaderError, HeaderLimitError, Tensors, read_tensors
from linepress.submission.check.ledger import Ledger
from linepress.submission.check.limits import Limits
from linepress.submission.check.manifest import ManifestError, parse_manifest, write_manifest
from linepress.submission.check.reading import read_file

PIECES_BYTES = (1, 7)
Entry = tuple[str, str, tuple[int, ...], int, int]


def judge_safetensors(data: bytes) -> tuple[str, list[str]]:
    """How a whole file was judged (``taken``, ``refused``) and what must not be.

    Breaches: the streaming reader takes what the safetensors library refuses or reads it differently; the reader of
    `linepress.sources` refuses or reads differently what all rules pass; the verdict hangs on where pieces end; an
    exception other than the typed one (it is not caught here); text of a reason that is not printable.
    """
    found: list[str] = []
    descriptor = os.memfd_create("case")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        ledger = Ledger()
        facts = read_file("case.safetensors", descriptor, len(data), Limits(), ledger, 0)
    finally:
        os.close(descriptor)
    failed = {finding.rule: finding.reasons for finding in ledger.findings() if finding.verdict == "FAIL"}
    reasons = [reason for reasons in failed.values() for reason in reasons]
    found += [f"a reason that is not printable: {reason!r}" for reason in reasons if not reason.isprintable()]
    found += [reason for reason in reasons if "library refuses what the own reader takes" in reason]
    found += [reason for reason in reasons if "readers disagree" in reason and "S08" not in failed]
    n = int.from_bytes(data[:8], "little")
    whole = len(data) >= 8 and n <= len(data) - 8
    if whole:
        found += _pieces(data[8 : 8 + n], len(data) - 8 - n)
    if facts.tensors is None or {"S02", "S06", "S07", "S08"} & failed.keys():
        return "refused", found
    expected = sorted(_entries(facts.tensors), key=lambda entry: entry[0])
    try:
        header = parse_header(data[8 : 8 + header_length(data[:8], len(data), "case")], len(data), "case")
    except SafetensorsError as error:
        return "taken", [*found, f"the reader of sources refuses what every rule passes: {error}"]
    start = 8 + n
    got = sorted(
        ((e.name, e.dtype, tuple(e.shape), e.start - start, e.end - start) for e in header.entries),
        key=lambda entry: entry[0],
    )
    if got != expected:
        found.append("the reader of sources finds other tensors than the check")
    return "taken", found


def _pieces(header: bytes, data_bytes: int) -> list[str]:
    """The streaming reader must say the same wherever the pieces end."""
    said = {size: _read(header, size, data_bytes) for size in (max(len(header), 1), *PIECES_BYTES)}
    first = next(iter(said.values()))
    return [f"in pieces of {size} B the reader says something else" for size, one in said.items() if one != first]


def _read(header: bytes, size: int, data_bytes: int) -> tuple[str, list[Entry]]:
    pieces = iter([header[i : i + size] for i in range(0, len(header), size)])
    try:
        tensors = read_tensors(lambda: next(pieces, b""), data_bytes, Limits())
    except (HeaderError, HeaderLimitError):
        return "refused", []
    return "taken" if not tensors.strict else "taken but for S08", _entries(tensors)


def _entries(tensors: Tensors) -> list[Entry]:
    return list(
        zip(tensors.names, tensors.dtypes, tensors.shapes, tensors.begins, tensors.ends, strict=True),
    )


def judge_manifest(raw: bytes) -> tuple[str, list[str]]:
    """How a manifest was judged, and what must not be.

    Breaches: an exception other than `ManifestError` (not caught here), an error that is not one printable line, a
    manifest that does not survive being written and read again.
    """
    try:
        manifest = parse_manifest(raw)
    except ManifestError as error:
        return "refused", [] if str(error).isprintable() else [f"an error that is not one printable line: {error!r}"]
    again = parse_manifest(write_manifest(manifest).encode("utf-8", "surrogatepass"), Limits(manifest_bytes=1 << 24))
    return "taken", [] if again == manifest else ["written and read again it is another manifest"]


def judge_answer(
    description: Mapping[str, Any], operation: str, status: int, headers: Mapping[str, str], body: bytes
) -> list[str]:
    """What is wrong with an HTTP answer, held against the service's OpenAPI description.

    ``operation`` is ``METHOD /path/{template}``; header names are in lower case. Breaches: a failure of the service
    itself, a status or a type of content that the description does not have, a 405 that hides a method, a refusal
    that is no ``Problem``.
    """
    method, _, template = operation.partition(" ")
    described = description["paths"][template]
    if status >= 500 and status != 507:
        return [f"status {status}"]
    if status == 405:
        documented = {name.upper() for name in described}
        allowed = {name.strip() for name in headers.get("allow", "").split(",")}
        return [f"Allow hides {name}" for name in sorted(documented - allowed)]
    found: list[str] = []
    answers = described[method.lower()]["responses"]
    if str(status) not in answers:
        return [f"status {status} is not described"]
    kind = headers.get("content-type", "").partition(";")[0]
    documented = set(answers[str(status)].get("content", {}))
    if documented and kind not in documented:
        found.append(f"status {status} is {kind}, the description says {', '.join(sorted(documented))}")
    if status >= 400 and body and set(json.loads(body)) != {"code", "error"}:
        found.append(f"a refusal that is no problem: {body[:100]!r}")
    return found
