"""A part and a policy as the flat integer arrays that the engine reads."""

from __future__ import annotations

import math

import numpy as np

from linepress_hardware.dram import engine
from linepress_hardware.dram.parts import Part
from linepress_hardware.dram.policy import PAGES, Policy
from linepress_hardware.dram.results import COMMANDS
from linepress_hardware.dram.standards import Rule
from linepress_hardware.dram.state import Spec

# Columns of the table of earliest times: commands that a rule can hold back. RDA and WRA are held like RD and WR.
HELD = ("ACT", "PRE", "PREA", "RD", "WR", "REFA", "REFB")
KINDS = {1: engine.KIND_SAME, 4: engine.KIND_WINDOW, 32: engine.KIND_LONG_WINDOW}  # by activates in the window


def compile_part(part: Part, policy: Policy) -> Spec:
    """Flat arrays of a part under a policy; raises `ConfigurationError` for a refresh the standard lacks."""
    standard, tpc, ck = part.standard, part.ticks_per_ck, part.ck
    policy = policy.on(standard)
    counts = (1, part.pseudo_channels, part.ranks, part.bank_groups, part.banks_per_group)
    banks = part.banks
    path = np.zeros((banks, engine.N_PATH), np.int64)
    low: list[int] = []
    high: list[int] = []
    base = 0
    for level in range(engine.LEVELS):
        nodes = math.prod(counts[: level + 1])
        path[:, level] = base + np.arange(banks) // (banks // nodes)
        for node in range(nodes):
            first = base + node // counts[level] * counts[level]
            low.append(first)
            high.append(first + counts[level])
        base += nodes
    table = _binding(part.rules())
    ordered = [rule for c in COMMANDS for rule in table if rule.first == c]
    scope_node = np.unique(path[:, standard.scope])
    scope_banks = banks // len(scope_node)
    path[:, engine.PATH_PSEUDO] = np.arange(banks) // (banks // part.pseudo_channels)
    path[:, engine.PATH_SCOPE] = path[:, standard.scope] - scope_node[0]
    values = np.zeros(engine.N_PART, np.int64)
    for column, value in {
        engine.P_BUSES: standard.buses,
        engine.P_HALF: int(standard.half_clock),
        engine.P_SPLIT: int(standard.split_activate),
        engine.P_LATENCY: part.read_latency_ticks,
        engine.P_BURST: ck["BL"] * tpc,
        engine.P_READS: policy.read_queue,
        engine.P_WRITES: policy.write_queue,
        # "more than high × entries" and "fewer than low × entries" as whole entries; 1e-6 forgives the product
        engine.P_HIGH: math.floor(policy.drain_high * policy.write_queue + 1e-6),
        engine.P_LOW: math.ceil(policy.drain_low * policy.write_queue - 1e-6),
        engine.P_PAGE: PAGES.index(policy.page),
        engine.P_REFRESH: ("none", "all_bank", "per_bank").index(policy.refresh),
        engine.P_REFI: ck["REFI"] * tpc,
        engine.P_REFIPB: part.bank_refresh_ck * tpc,
        engine.P_RFCAB: ck["RFCab"] * tpc,
        engine.P_RFCPB: ck["RFCpb"] * tpc,
        engine.P_AAD: ck["AAD"] * tpc,
        engine.P_WCK_READ: (ck["CL"] + ck["BL"] + ck["WCKPST"]) * tpc,
        engine.P_WCK_WRITE: (ck["CWL"] + ck["BL"] + ck["WCKPST"]) * tpc,
        engine.P_DATA_READ: ck["CL"] * tpc,
        engine.P_DATA_WRITE: ck["CWL"] * tpc,
        engine.P_SCOPE_BANKS: scope_banks,
        engine.P_CLOSE: math.ceil(policy.close_ns / part.tick_ns),
    }.items():
        values[column] = value
    values[engine.P_RULE_AT :] = np.cumsum([0, *(sum(r.first == c for r in table) for c in COMMANDS)])
    kinds = [engine.KIND_OTHER if r.other else KINDS[r.window] for r in ordered]
    columns = [(r.level, HELD.index(r.second), r.ticks, kind) for r, kind in zip(ordered, kinds, strict=True)]
    return Spec(
        part=values,
        rules=np.array(columns, np.int64).T.copy(),
        path=path,
        node_low=np.array(low, np.int64),
        node_high=np.array(high, np.int64),
        scope_node=scope_node,
    )


def _binding(rules: list[Rule]) -> list[Rule]:
    """Rules on held commands, without those that a rule of a wider level already implies."""

    def implied(rule: Rule) -> bool:
        return not rule.other and any(
            (wide.first, wide.second, wide.window) == (rule.first, rule.second, rule.window)
            and not wide.other
            and wide.level < rule.level
            and wide.ticks >= rule.ticks
            for wide in rules
        )

    return [r for r in rules if r.second in HELD and not implied(r)]
