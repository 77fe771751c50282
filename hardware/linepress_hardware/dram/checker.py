"""An independent look at a command log: every rule, state and bus, command by command, in plain Python.

It shares the list of rules with the engine (that list is what a part says) but none of the engine's bookkeeping: it
keeps the times of past commands by node and compares spacings, and it keeps its own state of every bank.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

from linepress_hardware.dram.parts import Part
from linepress_hardware.dram.policy import Policy
from linepress_hardware.dram.results import COMMANDS, CommandLog
from linepress_hardware.dram.standards import BANK, COLUMN_COMMANDS, LEVEL_NAMES, Rule, command_ticks

SAME_AS = {"RDA": "RD", "WRA": "WR"}  # held back like
POSTPONABLE = 8  # refreshes a standard lets a controller fall behind (JEDEC: up to eight)


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: which command of the log, and in words why."""

    index: int
    tick: int
    command: str
    what: str


def check_log(part: Part, log: CommandLog, policy: Policy | None = None, *, limit: int = 100) -> list[Violation]:
    """Every violation in a command log (at most ``limit``); an empty list means that no rule is broken."""
    return _Checker(part, policy or Policy(), limit).run(log)


class _Checker:
    def __init__(self, part: Part, policy: Policy, limit: int) -> None:
        self.part = part
        self.policy = policy.on(part.standard)
        self.limit = limit
        self.counts = (1, part.pseudo_channels, part.ranks, part.bank_groups, part.banks_per_group)
        self.by_second: dict[str, list[Rule]] = defaultdict(list)
        for rule in part.rules():
            self.by_second[rule.second].append(rule)
        self.past: dict[tuple[int, int, str], deque[int]] = defaultdict(lambda: deque(maxlen=32))
        self.row: dict[int, int] = {}  # open banks
        self.opening: dict[int, tuple[int, int]] = {}  # banks between the halves of a split activate: row, tick
        self.bus_until: dict[str, int] = {}
        self.data_until: dict[int, int] = {}
        self.clock_until = 0
        self.refreshes: dict[int, int] = defaultdict(int)
        self.found: list[Violation] = []

    def node(self, bank: int, level: int) -> int:
        """Number of the node of a level that holds a bank."""
        below = 1
        for count in self.counts[level + 1 :]:
            below *= count
        return bank // below

    def run(self, log: CommandLog) -> list[Violation]:
        before = -1
        entries = zip(log.tick.tolist(), log.command.tolist(), log.bank.tolist(), log.row.tolist(), strict=True)
        for i, (tick, number, bank, row) in enumerate(entries):
            command = COMMANDS[number]
            broken = self.spacing(tick, command, bank) + self.state(tick, command, bank, row)
            for what in broken + self.bus(tick, command, bank):
                self.found.append(Violation(i, tick, command, what))
            if tick < before:
                self.found.append(Violation(i, tick, command, f"stands after tick {before} in the log"))
            if len(self.found) >= self.limit:
                return self.found[: self.limit]
            before = tick
            for level in range(BANK + 1):
                self.past[level, self.node(bank, level), command].append(tick)
        return self.found

    def spacing(self, tick: int, command: str, bank: int) -> list[str]:
        bad = []
        for rule in self.by_second[SAME_AS.get(command, command)]:
            if rule.level > self.part.standard.scope and command in ("PREA", "REFA"):
                continue
            mine = self.node(bank, rule.level)
            nodes = [mine]
            if rule.other:
                first = mine // self.counts[rule.level] * self.counts[rule.level]
                nodes = [n for n in range(first, first + self.counts[rule.level]) if n != mine]
            for node in nodes:
                times = self.past[rule.level, node, rule.first]
                if len(times) >= rule.window and tick - times[-rule.window] < rule.ticks:
                    bad.append(
                        f"{tick - times[-rule.window]} ticks after {rule.first} on "
                        f"{'another' if rule.other else 'the same'} {LEVEL_NAMES[rule.level]}, "
                        f"needs {rule.ticks} ({rule.why})"
                    )
        return bad

    def scope_banks(self, bank: int) -> range:
        size = self.part.banks
        for count in self.counts[: self.part.standard.scope + 1]:
            size //= count
        return range(bank // size * size, bank // size * size + size)

    def state(self, tick: int, command: str, bank: int, row: int) -> list[str]:
        bad = []
        split = self.part.standard.split_activate
        if command == "ACT":
            if bank in self.row or bank in self.opening:
                bad.append("activates a bank that is not precharged")
            if self.opening:
                bad.append("activates while another activate is half issued")
            if split:
                self.opening[bank] = (row, tick)
            else:
                self.row[bank] = row
        elif command == "ACT2":
            half = self.opening.pop(bank, None)
            if half is None or half[0] != row:
                bad.append("second half of an activate without its first")
            elif tick - half[1] > self.part.ck["AAD"] * self.part.ticks_per_ck:
                bad.append(
                    f"second half {tick - half[1]} ticks after the first, allowed {self.part.ck['AAD']} (tAAD)"
                )
            self.row[bank] = row
        elif command in ("RD", "WR", "RDA", "WRA"):
            if self.row.get(bank) != row:
                bad.append(f"accesses row {row} while {self.row.get(bank, 'no row')} is open")
            if command in ("RDA", "WRA"):
                self.row.pop(bank, None)
        elif command == "PRE":
            if bank in self.opening:
                bad.append("precharges a bank whose activate is half issued")
            self.row.pop(bank, None)
        elif command in ("PREA", "REFA"):
            banks = self.scope_banks(bank)
            if command == "REFA" and any(b in self.row or b in self.opening for b in banks):
                bad.append("refreshes a scope with an open bank")
            if command == "PREA" and any(b in self.opening for b in banks):
                bad.append("precharges a bank whose activate is half issued")
            for b in banks if command == "PREA" else ():
                self.row.pop(b, None)
            if command == "REFA":
                bad += self.refresh_late(tick, banks[0], "all_bank", self.part.ck["REFI"])
        elif command == "REFB":
            if bank in self.row or bank in self.opening:
                bad.append("refreshes a bank that is open")
            bad += self.refresh_late(tick, self.scope_banks(bank)[0], "per_bank", self.part.bank_refresh_ck)
        return bad

    def refresh_late(self, tick: int, scope: int, kind: str, interval_ck: int) -> list[str]:
        if self.policy.refresh != kind:
            return []
        self.refreshes[scope] += 1
        due = tick // (interval_ck * self.part.ticks_per_ck)
        if due - self.refreshes[scope] > POSTPONABLE:
            return [f"is refresh {self.refreshes[scope]} of its scope where {due} were due"]
        return []

    def bus(self, tick: int, command: str, bank: int) -> list[str]:
        bad = []
        standard, tpc = self.part.standard, self.part.ticks_per_ck
        name = (
            "column"
            if standard.buses == 2 and command in COLUMN_COMMANDS
            else "row"
            if standard.buses == 2
            else "command"
        )
        if tick < self.bus_until.get(name, 0):
            bad.append(f"starts while the {name} bus is busy until tick {self.bus_until[name]}")
        self.bus_until[name] = tick + command_ticks(standard, command, tpc)
        if standard.half_clock and tick % 2 == 0 and command not in ("PRE", "PREA"):
            bad.append("starts on the second half of a clock")
        if command in ("RD", "WR", "RDA", "WRA"):
            read = command in ("RD", "RDA")
            ck = self.part.ck
            begin = tick + (ck["CL"] if read else ck["CWL"]) * tpc
            pseudo = self.node(bank, 1)
            if begin < self.data_until.get(pseudo, 0):
                bad.append(f"its data start at tick {begin}, the wires are busy until {self.data_until[pseudo]}")
            self.data_until[pseudo] = begin + ck["BL"] * tpc
            if standard.split_activate:
                if tick >= self.clock_until and not self.just_started(tick):
                    bad.append("accesses while the data clock has stopped")
                self.clock_until = max(self.clock_until, begin + (ck["BL"] + ck["WCKPST"]) * tpc)
        return bad

    def just_started(self, tick: int) -> bool:
        return any(t == tick - 1 for t in self.past[0, 0, "CAS"])
