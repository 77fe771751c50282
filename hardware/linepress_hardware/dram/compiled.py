"""A part and a policy as the flat integer arrays that the engine reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.dram.parts import Part
from linepress_hardware.dram.policy import Policy
from linepress_hardware.dram.results import COMMANDS
from linepress_hardware.dram.standards import BANK, Rule
from linepress_hardware.errors import ConfigurationError

# Columns of the table of earliest times: commands that a rule can hold back. RDA and WRA are held like RD and WR.
HELD = ("ACT", "PRE", "PREA", "RD", "WR", "REFA", "REFB")
LEVELS = 5


@dataclass(frozen=True, slots=True)
class Compiled:
    """Engine input for one part and policy; see the names in `engine`.

    ``path[bank, level]`` numbers the nodes of the five levels; ``rule_*`` hold the rules sorted by first command,
    ``rule_at[c]:rule_at[c + 1]`` those of command c; ``held_levels[h, :held_count[h]]`` are the levels at which
    anything holds command h back.
    """

    path: NDArray[np.int32]
    node_low: NDArray[np.int32]
    node_high: NDArray[np.int32]
    rule_at: NDArray[np.int32]
    rule_level: NDArray[np.int32]
    rule_held: NDArray[np.int32]
    rule_ticks: NDArray[np.int64]
    rule_kind: NDArray[np.int32]
    held_levels: NDArray[np.int32]
    held_count: NDArray[np.int32]
    scope_low: NDArray[np.int32]
    scope_of: NDArray[np.int32]
    pseudo_of: NDArray[np.int32]
    config: NDArray[np.int64]


KIND_SAME, KIND_WINDOW, KIND_OTHER = range(3)

CONFIG = (
    "buses half_clock split_activate read_latency burst read_queue write_queue drain_high drain_low page refresh "
    "refi refipb rfcab rfcpb aad wck_read wck_write cas_guard n_nodes scope_level scope_banks"
).split()  # noqa: SIM905


def compile_part(part: Part, policy: Policy) -> Compiled:
    """Flat arrays of a part under a policy; raises `ConfigurationError` for a refresh the standard lacks."""
    standard, tpc = part.standard, part.ticks_per_ck
    if policy.refresh == "per_bank" and not standard.per_bank_refresh:
        raise ConfigurationError(
            f"part {part.name}: {standard.name} has no per-bank refresh here; use all_bank or none"
        )
    counts = (1, part.pseudo_channels, part.ranks, part.bank_groups, part.banks_per_group)
    banks = part.banks
    path = np.zeros((banks, LEVELS), np.int32)
    low, high = [], []
    base = 0
    for level in range(LEVELS):
        nodes = int(np.prod(counts[: level + 1]))
        per = banks // nodes
        path[:, level] = base + np.arange(banks) // per
        siblings = counts[level] * per
        for node in range(nodes):
            first_sibling = (node * per // siblings) * counts[level]
            low.append(base + first_sibling)
            high.append(base + first_sibling + counts[level])
        base += nodes
    table = _dedupe(part.rules())
    by_first: dict[str, list[Rule]] = {c: [] for c in COMMANDS}
    for rule in table:
        by_first[rule.first].append(rule)
    ordered = [r for c in COMMANDS for r in by_first[c]]
    held_levels = np.zeros((len(HELD), LEVELS), np.int32)
    held_count = np.zeros(len(HELD), np.int32)
    for h, name in enumerate(HELD):
        levels = sorted({r.level for r in table if r.second == name})
        held_levels[h, : len(levels)] = levels
        held_count[h] = len(levels)
    scope_nodes = np.unique(path[:, standard.scope])
    scope_of = (path[:, standard.scope] - scope_nodes[0]).astype(np.int32)
    scope_banks = banks // len(scope_nodes)
    ck = part.ck
    refipb = ck["REFIpb"] or max(1, ck["REFI"] // scope_banks)
    values = {
        "buses": standard.buses,
        "half_clock": int(standard.half_clock),
        "split_activate": int(standard.split_activate),
        "read_latency": part.read_latency_ticks,
        "burst": ck["BL"] * tpc,
        "read_queue": policy.read_queue,
        "write_queue": policy.write_queue,
        # "more than high × entries" and "fewer than low × entries" as whole entries
        "drain_high": int(policy.drain_high * policy.write_queue + 1e-6),
        "drain_low": -int(-(policy.drain_low * policy.write_queue - 1e-6) // 1),
        "page": ("open", "closed", "adaptive").index(policy.page),
        "refresh": ("none", "all_bank", "per_bank").index(policy.refresh),
        "refi": ck["REFI"] * tpc,
        "refipb": refipb * tpc,
        "rfcab": ck["RFCab"] * tpc,
        "rfcpb": ck["RFCpb"] * tpc,
        "aad": ck["AAD"] * tpc,
        "wck_read": (ck["CL"] + ck["BL"] + ck["WCKPST"]) * tpc,
        "wck_write": (ck["CWL"] + ck["BL"] + ck["WCKPST"]) * tpc,
        "cas_guard": 1,
        "n_nodes": base,
        "scope_level": standard.scope,
        "scope_banks": scope_banks,
    }
    kinds = [KIND_OTHER if r.other else KIND_WINDOW if r.window == 4 else KIND_SAME for r in ordered]
    return Compiled(
        path=path,
        node_low=np.array(low, np.int32),
        node_high=np.array(high, np.int32),
        rule_at=np.cumsum([0, *(len(by_first[c]) for c in COMMANDS)]).astype(np.int32),
        rule_level=np.array([r.level for r in ordered], np.int32),
        rule_held=np.array([HELD.index(r.second) for r in ordered], np.int32),
        rule_ticks=np.array([r.ticks for r in ordered], np.int64),
        rule_kind=np.array(kinds, np.int32),
        held_levels=held_levels,
        held_count=held_count,
        scope_low=(np.arange(len(scope_nodes)) * scope_banks).astype(np.int32),
        scope_of=scope_of,
        pseudo_of=(np.arange(banks) // (banks // part.pseudo_channels)).astype(np.int32),
        config=np.array([values[k] for k in CONFIG], np.int64),
    )


def _dedupe(rules: list[Rule]) -> list[Rule]:
    """Rules that can bind: held commands only, and none that a rule of a wider level already implies."""
    kept = []
    for rule in rules:
        if rule.second not in HELD:
            continue
        implied = any(
            wide.first == rule.first
            and wide.second == rule.second
            and not wide.other
            and wide.window == rule.window
            and wide.level < rule.level
            and wide.ticks >= rule.ticks
            for wide in rules
        )
        if not (implied and not rule.other and rule.level <= BANK):
            kept.append(rule)
    return kept
