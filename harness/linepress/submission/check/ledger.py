"""Verdicts: what each rule found, gathered by code that never stops at the first problem.

A rule passes only when code that looked said so (`Ledger.saw`); a rule nobody reached is undecided, and undecided
counts as refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["PASS", "FAIL", "UNDECIDED"]
RULES = tuple(f"S{number:02d}" for number in range(1, 22))
REASONS_KEPT = 20
REASON_WIDTH = 500

EXIT_ACCEPTED = 0
EXIT_REFUSED = 1
EXIT_UNDECIDED = 2
EXIT_NOTHING = 3


def escaped(text: str) -> str:
    """``text`` with every character that is not printable written as an escape: safe in a log or a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def name_of(text: str, width: int = 80) -> str:
    """A foreign name quoted, escaped (backslashes too) and cut at ``width`` characters."""
    inner = "".join(c if c.isprintable() and c not in "\\'" else _escape(c) for c in text[:width])
    return f"'{inner}'" if len(text) <= width else f"'{inner}…'"


def _escape(c: str) -> str:
    return f"\\{c}" if c in "\\'" else ascii(c)[1:-1]


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict of one rule.

    Attributes
    ----------
    rule : str
        ``S01`` … ``S21``.
    verdict : str
        PASS, FAIL or UNDECIDED.
    reasons : tuple of str
        Sentences without control characters; for PASS, what was looked at.
    more : int
        Reasons left out.
    """

    rule: str
    verdict: Verdict
    reasons: tuple[str, ...]
    more: int = 0

    @property
    def line(self) -> str:
        """``S07 FAIL reason; reason (and 3 more)``."""
        tail = f" (and {self.more} more)" if self.more else ""
        return f"{self.rule} {self.verdict:<9} {'; '.join(self.reasons)}{tail}"


@dataclass
class _Entry:
    failed: list[str] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    more: int = 0


class Ledger:
    """Notes of the checks, by rule."""

    def __init__(self, rules: Iterable[str] = RULES) -> None:
        self._entries = {rule: _Entry() for rule in rules}

    def fail(self, rule: str, reason: str) -> None:
        """A breach of ``rule``; nothing said later takes it back."""
        self._note(rule, self._entries[rule].failed, reason)

    def doubt(self, rule: str, reason: str) -> None:
        """Why ``rule`` cannot be decided."""
        self._note(rule, self._entries[rule].doubted, reason)

    def saw(self, rule: str, what: str) -> None:
        """What was looked at and found good."""
        self._note(rule, self._entries[rule].seen, what)

    def failed(self, *rules: str) -> bool:
        """Whether any of ``rules`` has failed or is in doubt so far."""
        return any(self._entries[rule].failed or self._entries[rule].doubted for rule in rules)

    def findings(self) -> list[Finding]:
        """One verdict a rule, in order."""
        return [self._finding(rule, entry) for rule, entry in self._entries.items()]

    def _note(self, rule: str, notes: list[str], reason: str) -> None:
        if len(notes) >= REASONS_KEPT:
            self._entries[rule].more += 1
            return
        text = escaped(reason)
        notes.append(text if len(text) <= REASON_WIDTH else text[: REASON_WIDTH - 1] + "…")

    @staticmethod
    def _finding(rule: str, entry: _Entry) -> Finding:
        if entry.failed:
            return Finding(rule, "FAIL", tuple(entry.failed), entry.more)
        if entry.doubted:
            return Finding(rule, "UNDECIDED", tuple(entry.doubted), entry.more)
        if entry.seen:
            return Finding(rule, "PASS", tuple(entry.seen), entry.more)
        return Finding(rule, "UNDECIDED", ("the check did not get this far",))


def exit_code(findings: Iterable[Finding]) -> int:
    """1 if any rule failed, else 2 if any is undecided, else 0."""
    verdicts = {finding.verdict for finding in findings}
    if "FAIL" in verdicts:
        return EXIT_REFUSED
    return EXIT_UNDECIDED if "UNDECIDED" in verdicts else EXIT_ACCEPTED
