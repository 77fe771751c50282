"""What the statement of a certificate is made of, for those who issue and for those who verify: no more than this is
needed to read one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:linepress:validation-certificate:v1"
EXACT = (
    "content_sha256",
    "elements",
    "raw_bytes",
    "lines",
    "payload_bits",
    "table_bytes",
    "metadata_bytes",
    "packed_bytes",
    "lossless",
)
"""Columns of ``measure`` that come out the same on every machine."""

TOTAL_COLUMNS = ("status", "variant", "cast", "lossless", "raw_bytes", "payload_bits", "packed_bytes")


def totals(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Exact sums of the measured rows, by variant and cast."""
    out: dict[str, dict[str, int]] = {}
    for row in rows:
        label = row["variant"] + (f" ({row['cast']})" if row["cast"] else "")
        sums = out.setdefault(
            label, {"ok": 0, "not_ok": 0, "lossless": 0, "raw_bytes": 0, "payload_bits": 0, "packed_bytes": 0}
        )
        if row["status"] != "ok":
            sums["not_ok"] += 1
            continue
        sums["ok"] += 1
        sums["lossless"] += row["lossless"] is True
        for column in ("raw_bytes", "payload_bits", "packed_bytes"):
            sums[column] += int(row[column] or 0)
    return dict(sorted(out.items()))
