"""What the standards say about command order and spacing, as rules over timings that a part's file supplies.

A rule reads: after command `first`, command `second` may not be issued for `ticks`, where both act on the same node
of a level of the hierarchy (or, with `other`, on different nodes under one parent). Five levels describe every
family; a level that a family lacks has one node: channel, pseudo channel, rank (stack ID in HBM3 and HBM4), bank
group, bank.

Timings count from the last clock of the first command to the last clock of the second (a multi-clock command is
complete only then), while the engine notes first clocks; so every spacing is shifted by the difference of the two
commands' lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

CHANNEL, PSEUDO, RANK, GROUP, BANK = range(5)
LEVEL_NAMES = ("channel", "pseudo channel", "rank", "bank group", "bank")

READS = ("RD", "RDA")
WRITES = ("WR", "WRA")
ROW_COMMANDS = ("ACT", "PRE", "PREA", "REFA", "REFB", "ACT2")
COLUMN_COMMANDS = ("RD", "WR", "RDA", "WRA", "CAS")


class Rule(NamedTuple):
    """One minimum spacing; ``window`` n counts from the n-th last ``first`` (4 and 32: the activate windows)."""

    level: int
    first: str
    second: str
    ticks: int
    window: int = 1
    other: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Standard:
    """What distinguishes one family's command protocol.

    Attributes
    ----------
    scope : int
        Level that shares activate spacing, read/write turnaround and all-bank precharge and refresh.
    burst : int
        Level that shares data wires.
    column : int
        Level of the short column spacing (CCDS).
    group : int
        Level of the long column spacing and write-to-read spacing (CCDL, WTRL).
    buses : int
        1: one command a tick; 2: one row and one column command a tick.
    command_ck : dict
        Clocks a command occupies its bus, where not 1.
    half_clock : bool
        Ticks are half clocks; only precharges may start on the second half.
    split_activate : bool
        A row opens by ACT (ACT-1) and then ACT2 within AAD; columns need a running WCK (CAS).
    per_bank_refresh : bool
    """

    name: str
    scope: int
    burst: int
    column: int
    group: int
    buses: int
    command_ck: Mapping[str, float]
    half_clock: bool = False
    split_activate: bool = False
    per_bank_refresh: bool = True
    optional: tuple[str, ...] = ()


_HALF = {"ACT": 1.5, "PRE": 0.5, "PREA": 0.5, "REFA": 0.5, "REFB": 0.5}
_LONG = {"ACT": 2.0, "RD": 2.0, "WR": 2.0, "RDA": 2.0, "WRA": 2.0}

STANDARDS: dict[str, Standard] = {
    s.name: s
    for s in (
        Standard("HBM2", PSEUDO, PSEUDO, PSEUDO, GROUP, 2, {"ACT": 2.0}),
        Standard("HBM3", PSEUDO, PSEUDO, RANK, GROUP, 2, _HALF, half_clock=True),
        Standard("HBM4", PSEUDO, PSEUDO, RANK, GROUP, 2, _HALF, half_clock=True),
        Standard("DDR4", RANK, CHANNEL, RANK, GROUP, 1, {}, per_bank_refresh=False),
        Standard("DDR5", RANK, CHANNEL, RANK, GROUP, 1, _LONG),
        Standard("LPDDR5", RANK, CHANNEL, RANK, GROUP, 1, {}, split_activate=True),
        Standard("GDDR6", CHANNEL, CHANNEL, CHANNEL, GROUP, 1, {}),
        Standard("GDDR7", CHANNEL, CHANNEL, CHANNEL, BANK, 2, _LONG),
    )
}


def command_ticks(standard: Standard, command: str, ticks_per_ck: int) -> int:
    """Ticks for which a command occupies its bus."""
    return round(standard.command_ck.get(command, 1.0) * ticks_per_ck)


def rules(standard: Standard, ck: Mapping[str, int], ticks_per_ck: int) -> list[Rule]:
    """Every spacing of a standard with timings ``ck`` (clocks by name), strongest only, in ticks."""
    found: dict[tuple[int, str, str, int, bool], Rule] = {}

    def length(command: str) -> int:
        return command_ticks(standard, command, ticks_per_ck)

    def keep(rule: Rule) -> None:
        key = (rule.level, rule.first, rule.second, rule.window, rule.other)
        if rule.ticks > 0 and (key not in found or found[key].ticks < rule.ticks):
            found[key] = rule

    def add(
        level: int,
        firsts: Iterable[str],
        seconds: Iterable[str],
        clocks: int,
        why: str,
        window: int = 1,
        other: bool = False,
    ) -> None:
        for first in firsts:
            for second in seconds:
                ticks = clocks * ticks_per_ck + length(first) - length(second)
                keep(Rule(level, first, second, ticks, window, other, why))

    for bus in _buses(standard):
        for first in bus:
            if length(first) > 1:
                for second in bus:
                    keep(Rule(CHANNEL, first, second, length(first), 1, False, "command bus"))

    scope, group = standard.scope, standard.group
    write_end = ck["CWL"] + ck["BL"]
    write_end_long = ck["CWL"] + ck["BL_long"]
    write_to_precharge = write_end + ck["WR"]

    # Columns.
    add(standard.burst, READS, ("RD",), ck["BL"], "burst")
    add(standard.burst, WRITES, ("WR",), ck["BL"], "burst")
    add(standard.column, READS, ("RD",), ck["CCDS"], "tCCD_S")
    add(standard.column, WRITES, ("WR",), ck["CCDS_WR"], "tCCD_S")
    add(group, READS, ("RD",), ck["CCDL"], "tCCD_L")
    add(group, WRITES, ("WR",), ck["CCDL_WR"], "tCCD_L")
    add(scope, READS, ("WR",), ck["RTW"], "read to write")
    add(scope, WRITES, ("RD",), write_end + ck["WTRS"], "tWTR_S")
    add(group, WRITES, ("RD",), write_end_long + ck["WTRL"], "tWTR_L")
    if standard.half_clock:
        add(RANK, READS, ("RD",), ck["CCDR"], "tCCD_R", other=True)  # reads only (JESD238)
    elif scope == RANK:
        add(RANK, READS, ("RD",), ck["BL"] + ck["CS"], "rank switch", other=True)
        add(RANK, READS, ("WR",), ck["RTW_other"] or ck["BL"] + ck["CS"], "rank switch", other=True)
        add(RANK, WRITES, ("RD",), write_end + ck["CS"] - ck["CL"], "rank switch", other=True)

    # Rows.
    add(scope, ("ACT",), ("ACT",), ck["RRDS"], "tRRD_S")
    if group == GROUP:
        add(GROUP, ("ACT",), ("ACT",), ck["RRDL"], "tRRD_L")
    if ck["FAW"]:
        add(scope, ("ACT",), ("ACT",), ck["FAW"], "tFAW", window=4)
    if ck["AW32"]:
        add(scope, ("ACT",), ("ACT",), ck["AW32"], "t32AW", window=32)
    add(BANK, ("ACT",), ("ACT",), ck["RC"], "tRC")
    add(BANK, ("ACT",), ("RD",), ck["RCDRD"], "tRCD")
    add(BANK, ("ACT",), ("WR",), ck["RCDWR"], "tRCD")
    add(BANK, ("ACT",), ("PRE",), ck["RAS"], "tRAS")
    add(BANK, ("PRE",), ("ACT",), ck["RP"], "tRP")
    add(BANK, ("RD",), ("PRE",), ck["RTP"], "tRTP")
    add(BANK, ("WR",), ("PRE",), write_to_precharge, "tWR")
    add(BANK, ("RDA",), ("ACT",), ck["RTP"] + ck["RP"], "auto precharge")
    add(BANK, ("WRA",), ("ACT",), write_to_precharge + ck["RP"], "auto precharge")
    add(scope, ("ACT",), ("PREA",), ck["RAS"], "tRAS")
    add(scope, ("RD",), ("PREA",), ck["RTP"], "tRTP")
    add(scope, ("WR",), ("PREA",), write_to_precharge, "tWR")
    add(scope, ("PREA",), ("ACT",), ck["RPab"], "tRP")
    if ck["PPD"]:
        add(scope, ("PRE", "PREA"), ("PRE", "PREA"), ck["PPD"], "tPPD")
    if ck["RPD"]:
        add(BANK, ("PRE",), ("ACT", "REFB"), ck["RPD"], "tRPD", other=True)

    # Refresh of all banks.
    add(scope, ("ACT",), ("REFA",), ck["RC"], "tRC")
    add(scope, ("PRE", "PREA"), ("REFA",), ck["RP"], "tRP")
    add(scope, ("RDA",), ("REFA",), ck["RTP"] + ck["RP"], "auto precharge")
    add(scope, ("WRA",), ("REFA",), write_to_precharge + ck["RP"], "auto precharge")
    if ck["RDREF"]:
        add(scope, READS, ("REFA",), ck["RDREF"], "read to refresh")
    add(scope, ("REFA",), ("ACT", "PREA", "REFA"), ck["RFCab"], "tRFCab")

    # Refresh of one bank.
    if standard.per_bank_refresh:
        add(scope, ("REFB",), ("REFB",), ck["REFB2REFB"], "tRREFD")
        add(scope, ("REFB",), ("ACT",), ck["RREFD"], "tRREFD")
        add(scope, ("REFB",), ("REFA",), ck["RFCpb"], "tRFCpb")
        add(scope, ("REFA",), ("REFB",), ck["RFCab"], "tRFCab")
        add(scope, ("ACT",), ("REFB",), ck["RRDS"], "tRRD_S")
        add(scope, ("PREA",), ("REFB",), ck["RPab"], "tRP")
        add(BANK, ("REFB",), ("ACT",), ck["RFCpb"], "tRFCpb")
        add(BANK, ("ACT",), ("REFB",), ck["RC"], "tRC")
        add(BANK, ("PRE",), ("REFB",), ck["RP"], "tRP")
        add(BANK, ("RDA",), ("REFB",), ck["RTP"] + ck["RP"], "auto precharge")
        add(BANK, ("WRA",), ("REFB",), write_to_precharge + ck["RP"], "auto precharge")
    return list(found.values())


def _buses(standard: Standard) -> list[tuple[str, ...]]:
    if standard.buses == 2:
        return [ROW_COMMANDS, COLUMN_COMMANDS]
    return [ROW_COMMANDS + COLUMN_COMMANDS]
