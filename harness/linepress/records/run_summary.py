"""The table a run ends with: one line for every variant, kind of data and format."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from linepress.records.measured import data_of, dequantised_sources
from linepress.records.store import RunStore

COLUMNS = [
    "status",
    "variant",
    "source",
    "kind",
    "format",
    "cast",
    "packing",
    "raw_bytes",
    "payload_bits",
    "packed_bytes",
    "lines",
    "bound_ratio",
    "lossless",
    "encode_GBps",
    "decode_GBps",
]


@dataclass
class _Sum:
    planned: int = 0
    ok: int = 0
    lossless: int = 0
    raw_bytes: int = 0
    payload_bits: int = 0
    packed_bytes: int = 0
    bound_bytes: float = 0.0
    encode_GBps: list[float] = field(default_factory=list)
    decode_GBps: list[float] = field(default_factory=list)


def summary(store: RunStore) -> list[dict[str, Any]]:
    """One dict for every variant × data × format: byte-weighted ratios (Σ raw / Σ coded), the bound weighted alike,
    lossless and ok of planned, median speeds over tensors."""
    sums: dict[tuple[str, str, str, str], _Sum] = {}
    marked = dequantised_sources(store.manifest)
    for batch in store.batches("measure", COLUMNS):
        for row in batch.to_pylist():
            shown = row["format"] + (f" ({row['cast']})" if row["cast"] else "")
            data = data_of(row["kind"], row["source"], row["cast"] or "", marked)
            key = (data, shown, row["variant"], row["packing"] or "")
            if row["packing"] is None:
                # A failed row has no packing; it counts with the others of its variant.
                same = [known for known in sums if known[:3] == key[:3]]
                key = same[0] if same else key
            _add(sums.setdefault(key, _Sum()), row)
    return [_line(key, found) for key, found in sorted(sums.items(), key=lambda item: item[0][:2])]


def _add(found: _Sum, row: dict[str, Any]) -> None:
    found.planned += 1
    if row["status"] != "ok":
        return
    found.ok += 1
    found.lossless += row["lossless"] is True
    found.raw_bytes += row["raw_bytes"] or 0
    found.payload_bits += row["payload_bits"] or 0
    found.packed_bytes += row["packed_bytes"] or 0
    found.bound_bytes += (row["raw_bytes"] or 0) / row["bound_ratio"] if row["bound_ratio"] else 0.0
    for speed in ("encode_GBps", "decode_GBps"):
        if row[speed]:
            getattr(found, speed).append(row[speed])


def _line(key: tuple[str, str, str, str], found: _Sum) -> dict[str, Any]:
    data, format_, variant, packing = key
    return {
        "data": data,
        "format": format_,
        "variant": variant,
        "packing": packing,
        "payload_ratio": 8 * found.raw_bytes / found.payload_bits if found.payload_bits else None,
        "packed_ratio": found.raw_bytes / found.packed_bytes if found.packed_bytes else None,
        "bound_ratio": found.raw_bytes / found.bound_bytes if found.bound_bytes else None,
        "lossless": found.lossless,
        "ok": found.ok,
        "planned": found.planned,
        "raw_bytes": found.raw_bytes,
        "encode_GBps": median(found.encode_GBps) if found.encode_GBps else None,
        "decode_GBps": median(found.decode_GBps) if found.decode_GBps else None,
    }
