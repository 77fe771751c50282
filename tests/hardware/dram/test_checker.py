"""The checker finds nothing in what the engine does, and each broken rule: one tick early fails, on time passes."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from linepress_hardware.dram import (
    COMMANDS,
    CommandLog,
    check_log,
    load_part,
    parse_policy,
    part_names,
    pattern,
    simulate,
)
from linepress_hardware.dram.checker import _Checker
from linepress_hardware.dram.parts import Part
from linepress_hardware.dram.policy import Policy
from linepress_hardware.dram.standards import BANK, Rule

# Turnarounds of two presets let read and write data overlap (their files say so); these values do not.
SOUND = {"ddr4": {"RTW_other": 7.5}, "gddr7": {"RTW": 22 * 0.571}}


def _log(*commands: tuple[int, str, int, int]) -> CommandLog:
    tick, name, bank, row = zip(*commands, strict=True)
    numbers = [COMMANDS.index(n) for n in name]
    return CommandLog(np.array(tick), np.array(numbers, np.int8), np.array(bank, np.int32), np.array(row))


def _sound(name: str) -> Part:
    return load_part(name, SOUND.get(name))


POLICIES = (
    "open",
    "closed",
    "adaptive",
    "timeout:close_ns=60",
    "open:refresh=per_bank:read_queue=64",
    "open:write_queue=8",
)
RUNS = [
    (name, policy)
    for name in part_names()
    for policy in POLICIES
    if "per_bank" not in policy or load_part(name).standard.per_bank_refresh
]


@pytest.mark.parametrize(("name", "policy"), RUNS)
def test_the_engine_breaks_no_rule(name: str, policy: str) -> None:
    part = _sound(name)
    for kind in ("rw50", "streams8"):
        trace = pattern(kind, 1500)
        result = simulate(part, trace.address_bytes, trace.is_write, policy=policy, log=True)
        assert result.log is not None
        assert len(result.log) == sum(result.commands.values())
        assert check_log(part, result.log, parse_policy(policy)) == []


@pytest.mark.parametrize("name", sorted(SOUND))
def test_overlapping_data_of_a_preset_is_found(name: str) -> None:
    part = load_part(name)
    trace = pattern("rw50", 3000)
    result = simulate(part, trace.address_bytes, trace.is_write, log=True)
    assert result.log is not None
    found = check_log(part, result.log)
    assert found
    assert all("wires are busy" in v.what for v in found)


def _case(part: Part, rule: Rule, gap: int) -> CommandLog:
    """`first` and `second` of a rule `gap` ticks apart, with whatever state they need long before."""
    counts = (1, part.pseudo_channels, part.ranks, part.bank_groups, part.banks_per_group)
    below = int(np.prod(counts[rule.level + 1 :]))
    second = below if rule.other else 0 if rule.level == BANK else below - 1
    firsts = [(100_001 + 2 * 400 * i, rule.first, 0, 7) for i in range(rule.window)]
    at = firsts[-rule.window][0] + gap
    if rule.window > 1:
        at = max(at, 0)
        step = max(2, (rule.ticks // 4) // 2 * 2)
        firsts = [(100_001 + step * i, rule.first, 0, 7) for i in range(rule.window)]
        at = firsts[0][0] + gap
    return _log(*firsts, (at, rule.second, second, 7))


@pytest.mark.parametrize("name", part_names())
def test_every_rule_is_caught_one_tick_early_and_passes_on_time(name: str) -> None:
    part = load_part(name)
    for rule in part.rules():
        if rule.other and max(part.ranks, part.banks_per_group if rule.level == BANK else 0) < 2:
            continue
        if rule.second not in ("ACT", "PRE", "PREA", "RD", "WR", "REFA", "REFB"):
            continue
        text = f"needs {rule.ticks} ({rule.why})"
        early = [v.what for v in check_log(part, _case(part, rule, rule.ticks - 1))]
        assert any(text in what for what in early), rule
        on_time = [v.what for v in check_log(part, _case(part, rule, rule.ticks))]
        assert not any(text in what for what in on_time), rule


@pytest.mark.parametrize(
    ("commands", "what"),
    [
        ([(1, "RD", 0, 5)], "accesses row 5 while no row is open"),
        ([(1, "ACT", 0, 5), (201, "RD", 0, 6)], "accesses row 6 while 5 is open"),
        ([(1, "ACT", 0, 5), (201, "ACT", 0, 6)], "not precharged"),
        ([(1, "ACT", 0, 5), (401, "REFA", 0, -1)], "open bank"),
        ([(1, "ACT", 3, 5), (401, "REFB", 3, -1)], "that is open"),
        ([(2, "ACT", 0, 5)], "second half of a clock"),
        ([(1, "ACT", 0, 5), (3, "PRE", 40, -1)], "bus is busy"),
        ([(9, "PRE", 0, -1), (7, "PRE", 40, -1)], "stands after tick 9"),
    ],
)
def test_states_and_buses_of_hbm3(commands: list[tuple[int, str, int, int]], what: str) -> None:
    found = check_log(load_part("hbm3"), _log(*commands))
    assert any(what in v.what for v in found), found


@pytest.mark.parametrize(
    ("commands", "what"),
    [
        ([(1, "ACT", 0, 5), (12, "ACT2", 0, 5)], "allowed 8 (tAAD)"),
        ([(1, "ACT2", 0, 5)], "without its first"),
        ([(1, "ACT", 0, 5), (5, "ACT", 1, 5)], "half issued"),
        ([(1, "ACT", 0, 5), (3, "ACT2", 0, 5), (40, "RD", 0, 5)], "data clock has stopped"),
    ],
)
def test_split_activate_and_data_clock_of_lpddr5(commands: list[tuple[int, str, int, int]], what: str) -> None:
    found = check_log(load_part("lpddr5"), _log(*commands))
    assert any(what in v.what for v in found), found


def test_late_refresh_is_found() -> None:
    part = load_part("ddr5")
    late = _log((20 * part.ck["REFI"], "REFA", 0, -1))
    assert any("were due" in v.what for v in check_log(part, late, parse_policy("open:refresh=all_bank")))
    one_bank = _log((20 * part.bank_refresh_ck, "REFB", 0, -1))
    assert any("were due" in v.what for v in check_log(part, one_bank))
    assert check_log(part, _log((8 * part.bank_refresh_ck, "REFB", 0, -1))) == []
    assert check_log(part, late, parse_policy("open:refresh=none")) == []


def test_the_engine_uses_every_edge() -> None:
    """The engine is not merely legal: on mixed traffic it issues on the first legal tick of each kind of rule."""
    part = load_part("hbm3")
    trace = pattern("rw50", 4000)
    result = simulate(part, trace.address_bytes, trace.is_write, log=True)
    assert result.log is not None
    shifted = {"tRCD", "tRP", "tRAS", "tFAW", "tRRD_S", "tCCD_S", "tCCD_L", "tWTR_S", "read to write", "tRTP", "tWR"}
    tight = set()
    for rule in part.rules():
        if rule.why in shifted and rule.why not in tight:
            slower = rule._replace(ticks=rule.ticks + part.ticks_per_ck)  # a clock: columns need its first half
            if _breaks(part, slower, result.log):
                tight.add(rule.why)
    assert tight == shifted


def _breaks(part: Part, rule: Rule, log: CommandLog) -> bool:
    checker = _Checker(part, Policy(), 10**9)
    checker.by_second = defaultdict(list, {rule.second: [rule]})
    return any("needs" in v.what for v in checker.run(log))
