"""The rules of each part against published spacing tables, and the engine's edge: illegal at t - 1, legal at t."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_hardware.dram import check_log, engine, load_part, part_names, pattern, simulate
from linepress_hardware.dram.closed_forms import spacing_ticks
from linepress_hardware.dram.compiled import HELD, compile_part
from linepress_hardware.dram.policy import Policy
from linepress_hardware.dram.results import COMMANDS
from linepress_hardware.dram.standards import BANK, CHANNEL, GROUP, PSEUDO, RANK, Rule
from linepress_hardware.dram.state import Machine, Spec, new_machine

# Minimum command spacing in ticks (source: tests/data/dram/README.md, the configurations behind its rows).
BANK_TABLE = {  # ACT→RD, ACT→WR, ACT→PRE, PRE→ACT, ACT→ACT, RD→PRE, WR→PRE
    "hbm3": (63, 31, 92, 50, 144, 19, 91),
    "hbm4": (79, 39, 116, 64, 180, 25, 109),
    "hbm2": (15, 13, 35, 13, 48, 5, 23),
    "ddr5": (36, 36, 78, 35, 113, 19, 115),
    "ddr4": (22, 22, 52, 22, 74, 12, 44),
    "lpddr5": (15, 15, 34, 15, 49, 8, 39),
    "gddr6": (27, 16, 53, 27, 79, 4, 35),
    "gddr7": (30, 19, 61, 29, 90, 5, 39),
}
GROUP_TABLE = {  # RD→RD, WR→WR, WR→RD; ACT→ACT (GDDR7: same bank, no ACT)
    "hbm3": (8, 8, 44, 10),
    "hbm4": (8, 8, 50, 14),
    "hbm2": (4, 4, 15, 4),
    "ddr5": (12, 48, 66, 12),
    "ddr4": (8, 8, 32, 8),
    "lpddr5": (4, 4, 23, 4),
    "gddr6": (4, 4, 19, 8),
    "gddr7": (4, 4, 19, None),
}
SCOPE_TABLE = {  # RD→RD, WR→WR, RD→WR, WR→RD, ACT→ACT, 1st→5th ACT, PRE→PRE, other RD→RD, RD→WR, WR→RD
    "hbm3": (4, 4, 40, 38, 8, 48, 4, 6, None, None),
    "hbm4": (4, 4, 50, 42, 10, 60, 4, 4, None, None),
    "hbm2": (2, 2, 13, 13, 4, 15, None, None, None, None),
    "ddr5": (8, 8, 14, 48, 8, 48, 2, 10, 10, 8),
    "ddr4": (4, 4, 12, 24, 4, 34, None, 6, 6, None),
    "lpddr5": (2, 2, 12, 16, 4, 16, 2, 4, 4, None),
    "gddr6": (2, 2, 25, 17, 8, 29, 1, None, None, None),
    "gddr7": (2, 2, 12, 17, 4, None, 2, None, None, None),
}
REFRESH_TABLE = {  # REF→ACT, ACT→REF, PRE→REF, interval; read latency
    "hbm3": (1118, 146, 52, 12480, 44),
    "hbm4": (1798, 182, 66, 15600, 44),
    "hbm2": (349, 49, 14, 3900, 16),
    "ddr5": (709, 114, 36, 9375, 44),
    "ddr4": (576, 74, 22, 12480, 26),
    "lpddr5": (224, 49, 15, 3125, 19),
    "gddr6": (211, 79, 27, 3333, 26),
    "gddr7": (314, 91, 30, 3327, 27),
}


def _rule(
    rules: list[Rule], levels: tuple[int, ...], first: str, second: str, window: int = 1, other: bool = False
) -> int | None:
    found = [
        r.ticks
        for r in rules
        if r.level in levels and (r.first, r.second, r.window, r.other) == (first, second, window, other)
    ]
    return max(found) if found else None


@pytest.mark.parametrize("name", sorted(BANK_TABLE))
def test_rules_equal_the_published_tables(name: str) -> None:
    part = load_part(name)
    rules = part.rules()
    pairs = [
        ("ACT", "RD"),
        ("ACT", "WR"),
        ("ACT", "PRE"),
        ("PRE", "ACT"),
        ("ACT", "ACT"),
        ("RD", "PRE"),
        ("WR", "PRE"),
    ]
    assert tuple(_rule(rules, (BANK,), *p) for p in pairs) == BANK_TABLE[name]
    group = part.standard.group
    pairs = [("RD", "RD"), ("WR", "WR"), ("WR", "RD")]
    assert tuple(_rule(rules, (group,), *p) for p in pairs) == GROUP_TABLE[name][:3]
    assert _rule(rules, (GROUP,), "ACT", "ACT") == GROUP_TABLE[name][3]
    wide = (CHANNEL, PSEUDO, RANK)
    table = SCOPE_TABLE[name]
    pairs = [("RD", "RD"), ("WR", "WR"), ("RD", "WR"), ("WR", "RD"), ("ACT", "ACT")]
    assert tuple(_rule(rules, wide, *p) for p in pairs) == table[:5]
    assert _rule(rules, wide, "ACT", "ACT", window=4) == table[5]
    assert _rule(rules, wide, "PRE", "PRE") == table[6]
    assert _rule(rules, (RANK,), "RD", "RD", other=True) == table[7]
    assert _rule(rules, (RANK,), "RD", "WR", other=True) == table[8]
    if table[9] is not None:
        assert _rule(rules, (RANK,), "WR", "RD", other=True) == table[9]
    refresh = REFRESH_TABLE[name]
    assert _rule(rules, wide, "REFA", "ACT") == refresh[0]
    assert _rule(rules, wide, "ACT", "REFA") == refresh[1]
    assert _rule(rules, wide, "PRE", "REFA") == refresh[2]
    assert part.ck["REFI"] * part.ticks_per_ck == refresh[3]
    assert part.read_latency_ticks == refresh[4]


def _at(spec: Spec, machine: Machine, command: str, bank: int, tick: int) -> None:
    machine.z[engine.Z_T] = tick
    engine.issue(
        spec.part, spec.rules, spec.path, machine.node, machine.z, machine.log, COMMANDS.index(command), bank, -1
    )


@pytest.mark.parametrize("name", part_names())
def test_the_engine_holds_each_rule_to_the_tick(name: str) -> None:
    """After `first`, the engine's earliest tick of `second` is that of the strongest rule: not one tick off."""
    part = load_part(name)
    spec = compile_part(part, Policy())
    banks = part.banks
    rules = [r for r in part.rules() if r.second in HELD]
    counts = (1, part.pseudo_channels, part.ranks, part.bank_groups, part.banks_per_group)
    checked = 0
    for rule in rules:
        below = int(np.prod(counts[rule.level + 1 :]))
        if rule.other:
            if counts[rule.level] < 2:
                continue
            first_bank, second_bank = 0, below
        else:
            first_bank, second_bank = 0, below - 1
            if rule.level < BANK and below > 1 and (rule.first in ("REFB",) or rule.second in ("REFB",)):
                second_bank = below - 1
        if second_bank >= banks:
            continue
        machine = new_machine(spec, 0)
        for i in range(rule.window):
            _at(spec, machine, rule.first, first_bank, 101 + 2 * i)
        times = [101 + 2 * i for i in range(rule.window)]
        want = _strongest(part.rules(), counts, rule.first, rule.second, first_bank, second_bank, times)
        got = engine.earliest(spec.part, spec.path, machine.node, HELD.index(rule.second), second_bank)
        if part.standard.half_clock and rule.second not in ("PRE", "PREA"):
            want += 1 - want % 2
        assert got == want, rule
        assert want >= times[-rule.window] + rule.ticks
        checked += 1
    assert checked >= len({(r.first, r.second) for r in rules if not r.other}) * 0.9


def _strongest(
    rules: list[Rule], counts: tuple[int, ...], first: str, second: str, a: int, b: int, times: list[int]
) -> int:
    """Earliest tick of `second` on bank b after `first` on bank a at `times`, straight from the rules."""
    earliest = 0
    for r in rules:
        below = int(np.prod(counts[r.level + 1 :]))
        same = a // below == b // below
        siblings = not same and a // below // counts[r.level] == b // below // counts[r.level]
        if (r.first, r.second) == (first, second) and (siblings if r.other else same) and len(times) >= r.window:
            earliest = max(earliest, times[-r.window] + r.ticks)
    return earliest


def test_activate_window_counts_from_the_fourth_last() -> None:
    part = load_part("ddr5")
    spec = compile_part(part, Policy())
    machine = new_machine(spec, 0)
    groups = [0, 4, 8, 12]
    for i, bank in enumerate(groups[:3]):
        _at(spec, machine, "ACT", bank, 100 + 8 * i)
    early = engine.earliest(spec.part, spec.path, machine.node, HELD.index("ACT"), 16)
    assert early == 116 + 8  # tRRD_S: three activates do not fill the window
    _at(spec, machine, "ACT", groups[3], 124)
    late = engine.earliest(spec.part, spec.path, machine.node, HELD.index("ACT"), 16)
    assert late == 100 + 48  # tFAW from the first of four


def test_the_32_activate_window_counts_from_the_32nd_last() -> None:
    part = load_part("hbm2", {"AW32": 300.0})
    rule = next(r for r in part.rules() if r.window == 32)
    assert rule.ticks == 300  # tCK 1 ns
    spec = compile_part(part, Policy())
    machine = new_machine(spec, 0)
    # Two activates a bank in turn, far enough apart for every other rule.
    at = [1000 + 5 * i for i in range(32)]
    for i, tick in enumerate(at[:31]):
        _at(spec, machine, "ACT", i % 16, tick)
    asked = (spec.part, spec.path, machine.node, HELD.index("ACT"), 13)
    assert engine.earliest(*asked) < at[0] + 300
    _at(spec, machine, "ACT", 14, at[31])
    assert engine.earliest(*asked) == at[0] + 300
    _at(spec, machine, "ACT", 15, at[0] + 300)
    assert engine.earliest(*asked) == at[1] + 300  # the window slides


def test_a_part_with_the_32_activate_window_runs_within_it_and_the_checker_sees_it() -> None:
    plain, limited = load_part("hbm2"), load_part("hbm2", {"AW32": 400.0})
    trace = pattern("rand", 3000)
    free, held = (
        simulate(part, trace.address_bytes, trace.is_write, policy="open:refresh=none", log=True)
        for part in (plain, limited)
    )
    assert free.log is not None
    assert held.log is not None
    assert check_log(limited, held.log, Policy(refresh="none")) == []
    assert any("t32AW" in v.what for v in check_log(limited, free.log, Policy(refresh="none")))
    # 32 activates in 400 ns on each of two pseudo channels bound a run of misses, and little else does.
    bound_ns = held.commands["ACT"] / 2 / 32 * 400
    assert bound_ns * 0.98 <= held.sim_time_ns <= bound_ns * 1.1
    assert free.sim_time_ns < 0.9 * held.sim_time_ns


def test_same_bank_spacing_takes_the_strongest_level() -> None:
    assert spacing_ticks(load_part("hbm3"), "RD", "RD") == 8
