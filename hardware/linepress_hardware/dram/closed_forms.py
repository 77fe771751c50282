"""Closed forms that a simulated number can be held against. Times in ns unless said otherwise."""

from __future__ import annotations

from linepress_hardware.dram.parts import Part
from linepress_hardware.dram.standards import BANK, command_ticks


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
        to_read = _bank_rule(part, "ACT", "RD")
        # Both commands start on the first half of a clock.
        ticks += to_read + (to_read % 2 if part.standard.half_clock else 0)
    if row == "conflict":
        ticks += _bank_rule(part, "PRE", "ACT")
    return ticks * part.tick_ns


def _bank_rule(part: Part, first: str, second: str) -> int:
    return max(r.ticks for r in part.rules() if (r.level, r.first, r.second, r.other) == (BANK, first, second, False))


def row_ns(part: Part) -> float:
    """Least mean time between two rows that a channel opens for one atom each: the greatest of three bounds.

    Four activates a tFAW and one a tRRD_S on every scope; one activate a tRC on every bank; the command bus, which
    carries a precharge, an activate and (where there is one bus) a read for each atom.
    """
    ck, tpc, standard = part.ck, part.ticks_per_ck, part.standard
    window_ns = max(ck["FAW"] / 4, ck["RRDS"]) * part.tck_ns / part.scopes
    bank_ns = part.ns("RC") / part.banks
    commands = ["PRE", "ACT"] if standard.buses == 2 else ["PRE", "ACT", "RD"]
    slots = sum(command_ticks(standard, c, tpc) for c in commands) + (1 if standard.split_activate else 0)
    return max(window_ns, bank_ns, slots * part.tick_ns)


def activate_bound_GBps(part: Part) -> float:
    """Most bandwidth where every atom needs a row of its own: by rows (`row_ns`) or by the wires."""
    return min(part.peak_GBps, part.atom_bytes / row_ns(part))


def refresh_share(part: Part) -> float:
    """Share of a stream's time that all-bank refresh takes: (tRTP + tRP + tRFC + tRCD) / tREFI."""
    return (part.ck["RTP"] + part.ck["RPab"] + part.ck["RFCab"] + part.ck["RCDRD"]) / part.ck["REFI"]
