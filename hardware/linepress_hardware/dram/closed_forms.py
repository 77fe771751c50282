"""Closed forms that a simulated number can be held against. Times in ns unless said otherwise."""

from __future__ import annotations

from linepress_hardware.dram.parts import Part
from linepress_hardware.dram.standards import BANK


def spacing_ticks(part: Part, first: str, second: str) -> int:
    """The same-bank spacing of two commands in ticks: the strongest rule on any level."""
    return max(
        r.ticks for r in part.rules() if r.first == first and r.second == second and not r.other and r.window == 1
    )


def idle_read_ns(part: Part, row: str) -> float:
    """Latency of a read of one atom on an idle channel, from acceptance to its last data.

    ``row``: ``open`` (tCL + tBL), ``closed`` (tRCD more) or ``conflict`` (tRP + tRCD more), each plus the tick
    between acceptance and the first command; where the data clock has stopped (LPDDR5), plus the CAS that starts it.
    """
    ticks = 1 + part.read_latency_ticks
    if part.standard.split_activate:
        ticks += 1
    if row in ("closed", "conflict"):
        ticks += _bank_rule(part, "ACT", "RD")
    if row == "conflict":
        ticks += _bank_rule(part, "PRE", "ACT")
    return ticks * part.tick_ns


def _bank_rule(part: Part, first: str, second: str) -> int:
    return max(r.ticks for r in part.rules() if (r.level, r.first, r.second, r.other) == (BANK, first, second, False))


def activate_bound_GBps(part: Part) -> float:
    """Most bandwidth where every atom needs a row of its own: four activates a tFAW (or one a tRRD_S) a scope."""
    scopes = {0: 1, 1: part.pseudo_channels, 2: part.pseudo_channels * part.ranks}[part.standard.scope]
    per_activate = max(part.ck["FAW"] / 4, part.ck["RRDS"]) * part.tck_ns
    return min(part.peak_GBps, scopes * part.atom_bytes / per_activate)


def refresh_share(part: Part) -> float:
    """Share of a stream's time that all-bank refresh takes: (tRTP + tRP + tRFC + tRCD) / tREFI."""
    return (part.ck["RTP"] + part.ck["RPab"] + part.ck["RFCab"] + part.ck["RCDRD"]) / part.ck["REFI"]
