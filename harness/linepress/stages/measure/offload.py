"""When a codec pays for a page or a line that goes over a link, by the fabric model's rates.

A page is one message, coded while it flows: S / B against c + max(S / (r B), S / E, S / D), with what the card
says of c, E and D for one coder (`linepress_hardware.fabric.compressed.point_to_point`). A line is one packet, whose
header the code does not shrink.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linepress_codecs.contracts import LINE_BYTES, HardwareCard
from linepress_hardware.fabric.compressed import Coder, point_to_point
from linepress_hardware.fabric.links import Link, link

LINKS = ("pcie-5", "pcie-6", "nvlink-5", "ualink-800g", "ualoe-400g")
SSD_LANES = 4
"""Lanes of an NVMe drive: its port's rate bounds any SSD from above."""


def rows(row: Mapping[str, Any], card: HardwareCard | None) -> list[dict[str, Any]]:
    """What one row of `measure_pages` (of pages or of lines) is worth on each link, one row a link.

    ``speedup`` is plain over coded time of one unit; ``coders`` the coders side by side that keep up with the link.
    """
    found = []
    for name in LINKS:
        found.append(_row(row, card, link(name), name, 1.0))
    found.append(_row(row, card, link("pcie-5"), "ssd (PCIe 5 x4 port)", SSD_LANES / link("pcie-5").lanes))
    return found


def _row(row: Mapping[str, Any], card: HardwareCard | None, over: Link, name: str, share: float) -> dict[str, Any]:
    rate = over.rate_GBps * share
    engine = None if card is None or row["granularity"] != "page" else _engine_GBps(row, card)
    said: dict[str, Any] = {
        "contract": row["contract"],
        "codec": row["codec"],
        "granularity": row["granularity"],
        "link": name,
        "rate_GBps": rate,
        "coders": None,
        "break_even_bytes": None,
    }
    if row["granularity"] == "line":
        coded = LINE_BYTES / row["ratio"]
        plain, short = (float(over.framing.wire_bytes(n)) for n in (LINE_BYTES, coded))
        return said | {"speedup": plain / short}
    if engine is None:
        return said | {"speedup": row["ratio"]}
    coders = max(1, -int(-row["ratio"] * rate // engine))
    fill_us = _fill_ns(row, card) / 1e3
    both = Coder(ratio=row["ratio"], encode_GBps=coders * engine, decode_GBps=coders * engine, message_us=fill_us)
    told = point_to_point(rate, 0.0, both)
    plain_us = row["unit_bytes"] / rate / 1e3
    alone = plain_us / (fill_us + plain_us / told["largest_speedup"])
    return said | {
        "coders": coders,
        "break_even_bytes": told["break_even_bytes"],
        "speedup": told["largest_speedup"],
        "one_page_speedup": alone,
    }


def _engine_GBps(row: Mapping[str, Any], card: HardwareCard) -> float:
    """Raw bytes a second of one coder: a line an interval, or a page an interval where it codes blocks."""
    if row["line_codec"]:
        return card.engine_GBps
    return float(row["unit_bytes"] * card.clock_GHz.value / card.initiation_interval_cycles.value)


def _fill_ns(row: Mapping[str, Any], card: HardwareCard | None) -> float:
    """Encoding and decoding before the first and after the last byte: of a line, or of the page as a block."""
    return 0.0 if card is None else card.encode_latency_ns + card.decode_latency_ns
