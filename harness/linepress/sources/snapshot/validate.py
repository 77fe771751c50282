"""What ``linepress validate`` checks: everything a reader relies on, then the bytes themselves.

Header-level lies (shapes against metadata, missing halves, tables) are errors of opening; here the body is streamed
once: tokens that are not numbers, caches that nobody wrote, tables that name pages that do not exist.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from linepress.environment import expanded
from linepress.errors import SourceError
from linepress.sources import Source, TensorRef, open_source
from linepress.sources.casts import to_float32
from linepress.sources.groups import KINDS
from linepress.sources.safetensors.header import Header
from linepress.sources.safetensors.reader import SafetensorsSource, read_header
from linepress.sources.snapshot.contract import Layout
from linepress.sources.snapshot.format import (
    BLOCK_TABLE,
    SEQUENCE_TOKENS,
    TABLES,
    form_of,
    is_snapshot,
    layers_held,
)
from linepress.sources.sniff import kind_of
from linepress_codecs.formats import Format

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"
CHUNK_BYTES = 8 << 20
_PLAIN = ("F32", "F16", "BF16")
STATED = ("model", "layers", "kv_heads", "head_dim", "tokens", "keys", "dtype", "text_sha256")
"""Metadata that makes a snapshot comparable with others; a missing one is a warning."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: ``rule`` is stable for programs, ``text`` one sentence with the number that decided."""

    rule: str
    outcome: str
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """Counts of one tensor's values: not-a-number, infinite, zero, in all; and the first not-a-number's index."""

    nan: int
    infinite: int
    zero: int
    values: int
    first_nan: int | None


def validate(uri: str) -> tuple[list[Finding], dict[str, object]]:
    """Check a source and, for a snapshot, its form and tables; (findings, what it is).

    A source that cannot be opened is one FAIL finding ``opens``; nothing of it counts.
    """
    try:
        source = open_source(uri)
        header = _header(uri)
        findings = [Finding("opens", PASS, what_it_is(source)), *_left_out(source)]
        if header is not None and is_snapshot(header):
            findings += _snapshot(header, uri)
        findings += _bodies(source.tensors())
    except SourceError as error:
        return [Finding("opens", FAIL, str(error))], {"uri": uri}
    return findings, _facts(source, header)


def what_it_is(source: Source) -> str:
    """One line: how many tensors of which formats from which files, and what names do not tell."""
    tensors = source.tensors()
    formats = Counter(tensor.stored_format for tensor in tensors)
    listed = ", ".join(f"{n} {name}" for name, n in formats.most_common())
    provenance = source.provenance()
    files = provenance.get("files")
    n_files = len(files) if isinstance(files, list) else 0
    where = f" in {n_files} files" if n_files > 1 else ""
    kind = str(provenance.get("kind", "source"))
    packed = Counter(note for tensor in tensors if (note := tensor.metadata.get("packed")))
    ggml = Counter(note for tensor in tensors if (note := tensor.metadata.get("ggml_type")) and note not in _PLAIN)
    said = [f"{n} of them {note}" for note, n in packed.most_common(3)]
    kinds = Counter(tensor.kind for tensor in tensors)
    if set(kinds) - {"weight"}:
        said.append(", ".join(f"{n} of {KINDS[kind]}" for kind, n in kinds.items()))
    if ggml:
        said.append("blocks of " + ", ".join(f"{name} ({n})" for name, n in ggml.most_common(6)))
    if any("byte_order" in tensor.metadata for tensor in tensors):
        said.append("big-endian")
    more = "".join(f"; {text}" for text in said)
    return f"{kind}{where}: {len(tensors)} tensors ({listed}), headers true to the file{more}"


def _left_out(source: Source) -> list[Finding]:
    """What of the source is not measured, and why: tensors without a format, files beside those read."""
    found = []
    tensors = {name: why for name, why in source.skipped().items() if name.rpartition("/")[2] not in TABLES}
    for rule, what, reasons in (("skipped", "tensor", tensors), ("left out", "file", source.left_out())):
        if reasons:
            some = "; ".join(f"{name}: {why}" for name, why in list(reasons.items())[:3])
            more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            plural = "" if len(reasons) == 1 else "s"
            found.append(Finding(rule, WARN, f"{len(reasons)} {what}{plural} not read: {some}{more}"))
    return found


def _header(uri: str) -> Header | None:
    path = expanded(uri.removeprefix("memory:"))
    return read_header(path) if path.is_file() and kind_of(path) == "safetensors" else None


def _facts(source: Source, header: Header | None) -> dict[str, object]:
    tensors = source.tensors()
    facts: dict[str, object] = {
        "uri": source.uri,
        "revision": source.revision,
        "tensors": len(tensors),
        "bytes": sum(t.n_bytes for t in tensors),
        "formats": sorted({t.stored_format for t in tensors}),
        "skipped": source.skipped(),
        "left_out": source.left_out(),
    }
    if header is not None and is_snapshot(header):
        form = form_of(header.metadata, source.uri)
        facts |= {
            "snapshot": True,
            "arrangement": form.arrangement,
            "metadata": dict(sorted(header.metadata.items())),
        }
    return facts


def _snapshot(header: Header, uri: str) -> list[Finding]:
    """Metadata, tables and what they mark."""
    said = header.metadata
    missing = [key for key in STATED if key not in said]
    found = [
        Finding(
            "metadata", WARN, f"the header does not state {', '.join(missing)}; add it so that runs can be compared"
        )
        if missing
        else Finding("metadata", PASS, f"{len(said)} entries, {', '.join(STATED)} among them")
    ]
    form = form_of(said, uri)
    formats = {entry.dtype for entry in header.entries if entry.name not in (BLOCK_TABLE, SEQUENCE_TOKENS)}
    found.append(
        Finding("dtype", PASS, f"every cache tensor is {formats.pop()}")
        if len(formats) == 1
        else Finding("dtype", WARN, f"cache tensors are of several types ({', '.join(sorted(formats))})")
    )
    if form.layers is not None:
        layers = layers_held(header, form)
        found.append(
            Finding("layers", PASS, f"all {form.layers} layers")
            if len(layers) == form.layers
            else Finding("layers", WARN, f"{len(layers)} of {form.layers} layers; totals are of these alone")
        )
    if form.layout.paged or form.layout.padded:
        found += _marks(header, uri, form.layout)
    found += _turns(said)
    return found


def _marks(header: Header, uri: str, layout: Layout) -> list[Finding]:
    """How much of an engine's memory holds tokens, and whether the header's count agrees."""
    path = uri.removeprefix("memory:")
    view = SafetensorsSource(uri, [expanded(path)]).tensors()
    memory = SafetensorsSource(uri, [expanded(path)], view="memory").tensors()
    token, held = sum(t.n_bytes for t in view), sum(t.n_bytes for t in memory)
    tokens = view[0].shape[1]
    found = [
        Finding(
            "slots",
            PASS,
            f"{layout.name}: {tokens} tokens fill {100 * token / held:.1f} % of {held} B; the rest is not data",
        )
    ]
    stated = header.metadata.get("tokens")
    if layout.paged and stated is not None and stated != str(tokens):
        found.append(
            Finding(
                "tokens", FAIL, f"the header states {stated} tokens but the block table marks {tokens}; count again"
            )
        )
    return found


def _turns(said: dict[str, str]) -> list[Finding]:
    stated = said.get("turn_ends")
    if stated is None:
        return []
    for row, text in enumerate(stated.split(";")):
        parts = text.split(",")
        ends = [int(p) for p in parts if p.isascii() and p.isdecimal() and len(p) < 12]
        if len(ends) != len(parts) or any(a >= b for a, b in pairwise(ends)):
            return [Finding("turns", FAIL, f"turn_ends of sequence {row} is not a rising list of token counts")]
    return [Finding("turns", PASS, f"{len(stated.split(';'))} sequences with rising turn ends")]


def _bodies(tensors: Iterable[TensorRef]) -> list[Finding]:
    """One pass over every tensor's bytes."""
    found: list[Finding] = []
    n = infinite = 0
    for tensor in tensors:
        body = examine(tensor)
        n += 1
        infinite += body.infinite
        where = f"{tensor.name} {list(tensor.shape)}"
        if body.nan:
            index = np.unravel_index(body.first_nan or 0, tensor.shape)
            at = f"first at {[int(i) for i in index]}"
            found.append(Finding("numbers", FAIL, f"{where} has {body.nan} NaN of {body.values} values, {at}"))
        elif body.zero == body.values and tensor.kind != "weight":
            found.append(Finding("written", FAIL, f"{where} is all zero: nobody wrote it; capture it again"))
        elif tensor.kind != "weight" and body.zero > body.values // 2:
            share = 100 * body.zero / body.values
            found.append(Finding("written", WARN, f"{where} is {share:.0f} % zero; is padding counted as tokens?"))
    if infinite:
        found.append(Finding("infinite", WARN, f"{infinite} infinite values: did the cache overflow its format?"))
    if not any(f.outcome == FAIL for f in found):
        found.insert(0, Finding("numbers", PASS, f"{n} tensors read whole, no NaN"))
    return found


def examine(tensor: TensorRef) -> Body:
    """Stream one tensor and count; integer formats have only zeros to count."""
    fmt = tensor.format
    nan = infinite = zero = values = 0
    first: int | None = None
    for start in range(0, tensor.n_bytes, CHUNK_BYTES):
        raw = tensor.read(start, min(start + CHUNK_BYTES, tensor.n_bytes))
        bits = raw.view(fmt.storage)
        bad, unbounded, nothing = _classes(bits, fmt, tensor.stored_format)
        if first is None and bad.any():
            first = values + int(np.flatnonzero(bad)[0])
        nan, infinite, zero = nan + int(bad.sum()), infinite + int(unbounded.sum()), zero + int(nothing.sum())
        values += len(bits)
    return Body(nan, infinite, zero, values, first)


def _classes(
    bits: np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]], fmt: Format, stored: str
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.bool_]], ...]:
    """(NaN, infinite, zero) of each stored item."""
    none = np.zeros(len(bits), np.bool_)
    if stored in ("bf16", "fp16", "fp32"):
        numbers = to_float32(np.ascontiguousarray(bits).view(np.uint8), stored)
        return np.isnan(numbers), np.isinf(numbers), numbers == 0
    if stored == "e4m3":  # OFP8 1.0, table 1: NaN is S.1111.111; there is no infinity
        return (bits & 0x7F) == 0x7F, none, (bits & 0x7F) == 0
    if stored == "e5m2":  # OFP8 1.0, table 1: infinity is S.11111.00, NaN the other mantissas
        return (bits & 0x7F) > 0x7C, (bits & 0x7F) == 0x7C, (bits & 0x7F) == 0
    if stored in ("e4m3fnuz", "e5m2fnuz"):  # arXiv 2206.02915: 0x80 alone is NaN
        return bits == 0x80, none, bits == 0
    return none, none, bits == 0
