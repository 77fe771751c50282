"""``manifest.yaml`` of a submission: its model, its strict loader (rule S01) and its writer.

Types are checked here, values by the rules that own them, so that a wrong licence is S12's finding and not a parse
error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from linepress.errors import LinepressError
from linepress.submission.check.ledger import name_of
from linepress.submission.check.limits import MANIFEST_NAME, Limits
from linepress.suite.yaml12 import parse_yaml

SCHEMA_VERSION = 1
MAX_DEPTH = 8
Text = Annotated[str, Field(max_length=4096)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]


class ManifestError(LinepressError):
    """A manifest that is not one; the sentence gives line and place."""


class Part(BaseModel):
    """Base of every section: unknown keys are errors, types are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SourceRef(Part):
    """Where the partner has it from: ``hf://org/name`` with a 40-hex ``revision``, or ``upload`` (the files' own
    sha256 are then the identity)."""

    uri: Text
    revision: Text | None = None


class Licence(Part):
    """SPDX identifier, whether it lets the bytes be passed on, whether the source is gated, and the id of a waiver
    that the receiving side has granted."""

    spdx: Text
    redistribution: bool
    gated: bool
    waiver: Text | None = None


class FileEntry(Part):
    """One file: path inside the submission, size in bytes, sha256 (hex) and format as declared."""

    path: Text
    bytes: Count
    sha256: Text
    format: Literal["safetensors", "json", "text"]


class Declared(Part):
    """Tensors over all safetensors files: count, bytes of their data, count by dtype."""

    tensors: Count
    tensor_bytes: Count
    dtypes: dict[Text, Count]


class Expected(Part):
    """A result the partner reports: exact bits and bytes of one tensor under one variant."""

    file: Text
    tensor: Text
    variant: Text
    payload_bits: Count
    packed_bytes: Count


class Manifest(Part):
    """The whole file. ``delivery: reference`` means that the files are not here but at ``source``."""

    schema_version: Literal[1]
    submitter: Text
    name: Text
    kind: Literal["model", "snapshot"]
    contact: Annotated[str, Field(min_length=3, max_length=320)]
    source: SourceRef
    licence: Licence
    delivery: Literal["files", "reference"] = "files"
    suite: Text = "smoke"
    files: Annotated[list[FileEntry], Field(min_length=1)]
    declares: Declared
    expected: list[Expected] = []


def parse_manifest(raw: bytes, limits: Limits | None = None) -> Manifest:
    """The manifest in ``raw``; raises `ManifestError` for anything that is not strict YAML 1.2 of this schema."""
    cap = (limits or Limits()).manifest_bytes
    if len(raw) > cap:
        raise ManifestError(f"{MANIFEST_NAME}: over {cap} B; list fewer files a submission")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{MANIFEST_NAME}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    document = parse_yaml(text, Path(MANIFEST_NAME), ManifestError, MAX_DEPTH)
    if isinstance(document.data, dict) and "schema_version" not in document.data:
        raise ManifestError(f"{MANIFEST_NAME}:1: schema_version is missing; write schema_version: {SCHEMA_VERSION}")
    return document.parse(Manifest, ManifestError)


def write_manifest(manifest: Manifest) -> str:
    """The manifest as YAML; every text is quoted, so that no YAML reader takes it for a number or a truth value."""
    data = manifest.model_dump()
    lines = ["# Written by `linepress pack`; checked by `linepress submit`."]
    for key, value in data.items():
        if isinstance(value, list) and value:
            lines.append(f"{key}:")
            lines += [f"  - {_flow(item)}" for item in value]
        else:
            lines.append(f"{key}: {_flow(value)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else _quoted(key)


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    if quoted.isprintable():
        return quoted
    return "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in quoted)


def suite_conflict(asked: str, declared: str) -> str:
    """Why a submission cannot be validated with the suite it was declared for, in one sentence; empty when it can."""
    if asked == declared:
        return ""
    return (
        f"the manifest asks for suite {name_of(asked)} and the declaration for {name_of(declared)}; pack again with "
        "--suite, or send with the suite of the manifest"
    )
