"""What many measured rows say together, one line a variant.

The total ratio is sum of raw over sum of coded bytes (byte-weighted: what a memory holding all tensors would gain);
the geometric mean over tensors counts each tensor alike. Failed and skipped cases are counted, never averaged in.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def totals(
    rows: Iterable[Mapping[str, Any]],
    failed: Mapping[tuple[str, str], int] | None = None,
    skipped: Mapping[tuple[str, str], int] | None = None,
) -> list[dict[str, Any]]:
    """One total a (variant, cast), in order of first appearance.

    Parameters
    ----------
    rows : iterable of rows of the ``measure`` table
    failed, skipped : mapping (variant, cast) -> number of cases
        Counted beside the measured ones.
    """
    failed, skipped = dict(failed or {}), dict(skipped or {})
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {key: [] for key in (*failed, *skipped)}
    ordered: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        ordered.setdefault((row["variant"], row["cast"]), []).append(row)
    return [_total(key, mine, failed.get(key, 0), skipped.get(key, 0)) for key, mine in {**found, **ordered}.items()]


def _total(key: tuple[str, str], rows: Sequence[Mapping[str, Any]], failed: int, skipped: int) -> dict[str, Any]:
    raw = sum(row["raw_bytes"] for row in rows)
    payload_bits = sum(row["payload_bits"] for row in rows)
    packed = sum(row["packed_bytes"] for row in rows)
    bound_bits = sum(row["bound_bits_per_value"] * row["elements"] for row in rows)
    return {
        "codec": key[0],
        "cast": key[1],
        "tensors": len(rows),
        "failed": failed,
        "skipped": skipped,
        "planned": len(rows) + failed + skipped,
        "raw_bytes": raw,
        "payload_bytes": -(-payload_bits // 8),
        "packed_bytes": packed,
        "payload_ratio": _ratio(8 * raw, payload_bits),
        "packed_ratio": _ratio(raw, packed),
        "bound_ratio": _ratio(8 * raw, bound_bits),
        "above_bound_pct": 100 * (payload_bits / bound_bits - 1) if bound_bits else None,
        "geomean_payload_ratio": _geomean([row["payload_ratio"] for row in rows]),
        "packing": _common([row["packing"] for row in rows]),
        "sampled": any(row["sampled"] for row in rows),
        "lossless": None if any(row["lossless"] is None for row in rows) else all(row["lossless"] for row in rows),
        **{f"{work}_GBps": _rate(rows, work) for work in ("encode", "decode", "measure")},
    }


def _rate(rows: Sequence[Mapping[str, Any]], work: str) -> float | None:
    """Bytes of all tensors over the sum of their median times; a sampled tensor counts with its sampled bytes."""
    n_bytes = seconds = 0.0
    for row in rows:
        rate, samples = row[f"{work}_GBps"], row[f"{work}_s"]
        if not rate or not samples:
            continue
        median_s = statistics.median(samples)
        seconds += median_s
        n_bytes += rate * 1e9 * median_s
    return n_bytes / seconds / 1e9 if seconds else None


def _geomean(ratios: Sequence[float]) -> float | None:
    positive = [r for r in ratios if r and math.isfinite(r)]
    return math.exp(math.fsum(map(math.log, positive)) / len(positive)) if positive else None


def _common(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else "mixed" if values else ""


def _ratio(raw: float, coded: float) -> float | None:
    return raw / coded if coded else None
