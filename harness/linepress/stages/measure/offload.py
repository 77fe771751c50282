"""When a codec pays for a page or a line that goes over a link, by the fabric model's rates.

A page is one message, coded while it flows: S / B against c + max(S / (r B), S / E, S / D), with c, E and D of one
coder (`linepress_hardware.fabric.compressed.point_to_point`): what the codec's card says of a block of hardware, or
what `linepress.stages.measure.pages.coder_rate` timed of one core, which codes a page before it goes. A line is one
packet, whose header the code does not shrink.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linepress_codecs.contracts import LINE_BYTES, HardwareCard
from linepress_hardware.fabric.compressed import Coder, point_to_point
from linepress_hardware.fabric.links import Link, link

LINKS = ("pcie-5", "pcie-6", "nvlink-5", "ualink-800g", "ualoe-400g", "ssd-pcie-5")


def rows(
    row: Mapping[str, Any], card: HardwareCard | None, core_GBps: tuple[float, float] | None = None
) -> list[dict[str, Any]]:
    """What one row of `measure_pages` (of pages or of lines) is worth on each link, one row a link and coder.

    ``core_GBps`` is what one core encodes and decodes, timed; it adds rows of pages coded in software. ``speedup`` is
    plain over coded time of one unit; ``coders`` the coders side by side that keep up with the link.
    """
    over = [link(name) for name in LINKS]
    if row["granularity"] == "line":
        return [_line(row, one) for one in over]
    unit = row["unit_bytes"]
    engines = []
    if card is not None:
        fill_ns = card.encode_latency_ns + card.decode_latency_ns
        engines.append(("card", _engine_GBps(row, card), _engine_GBps(row, card), fill_ns))
    if core_GBps is not None:
        engines.append(("core", *core_GBps, unit / core_GBps[0] + unit / core_GBps[1]))
    return [_page(row, one, *engine) for engine in engines for one in over]


def _said(row: Mapping[str, Any], coder: str, over: Link) -> dict[str, Any]:
    return {
        "contract": row["contract"],
        "codec": row["codec"],
        "granularity": row["granularity"],
        "coder": coder,
        "link": over.name,
        "rate_GBps": over.rate_GBps,
        "coders": None,
        "break_even_bytes": None,
    }


def _line(row: Mapping[str, Any], over: Link) -> dict[str, Any]:
    coded = LINE_BYTES / row["ratio"]
    plain, short = (float(over.framing.wire_bytes(n)) for n in (LINE_BYTES, coded))
    return _said(row, "card", over) | {"speedup": plain / short}


def _page(
    row: Mapping[str, Any],
    over: Link,
    coder: str,
    encode_GBps: float,
    decode_GBps: float,
    fill_ns: float,
) -> dict[str, Any]:
    rate_GBps = over.rate_GBps
    coders = max(1, -int(-row["ratio"] * rate_GBps // min(encode_GBps, decode_GBps)))
    both = Coder(row["ratio"], coders * encode_GBps, coders * decode_GBps, message_us=fill_ns / 1e3)
    told = point_to_point(rate_GBps, 0.0, both)
    plain_us = row["unit_bytes"] / rate_GBps / 1e3
    alone = plain_us / (fill_ns / 1e3 + plain_us / told["largest_speedup"])
    return _said(row, coder, over) | {
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
