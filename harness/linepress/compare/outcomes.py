"""What became of each case: new failures, recoveries, and results that are no longer there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.compare.data import Side
from linepress.compare.pairs import Pairs, case_name

GOOD, LOSSY, FAILED, SKIPPED, UNVERIFIED = "ok", "not lossless", "failed", "skipped", "not verified"
BAD = (LOSSY, FAILED)


@dataclass(frozen=True, slots=True)
class Change:
    """One case whose outcome changed.

    Attributes
    ----------
    kind : str
        ``new failure``, ``recovered`` or ``missing``.
    stage, case, variant : str
    before, after : str
        ok, not lossless, failed, skipped, not verified or absent.
    detail : str
        Sentence of the failure, or the reason of a skip.
    """

    kind: str
    stage: str
    case: str
    variant: str
    before: str
    after: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Changes of outcome, and what stayed bad.

    ``lossless`` is variant -> (lossless, cases) of base and of new, over the cases that were measured.
    """

    changes: list[Change]
    still_failing: int
    dropped: dict[str, int]
    """Variant -> cases that another suite no longer plans."""
    added: dict[str, int]
    """Variant -> good cases that only the new run has."""
    lossless: dict[str, tuple[tuple[int, int], tuple[int, int]]]

    def of(self, kind: str) -> list[Change]:
        return [change for change in self.changes if change.kind == kind]


def outcomes(pairs: Pairs, same_suite: bool) -> Outcomes:
    """Outcomes of the measure stage; ``same_suite`` says that a case which is not there should be."""
    before, after = states(pairs.base_side), states(pairs.new_side)
    changes: list[Change] = []
    still = 0
    moved = np.flatnonzero((before[pairs.base] != after[pairs.new]) | np.isin(before[pairs.base], BAD))
    for i in moved:
        row_base, row_new = int(pairs.base[i]), int(pairs.new[i])
        old, new = str(before[row_base]), str(after[row_new])
        kind = outcome_kind(old, new)
        if kind == "still failing":
            still += 1
        elif kind:
            changes.append(_change(kind, pairs.new_side, row_new, old, new))
    dropped: dict[str, int] = {}
    for row in map(int, pairs.only_base):
        if before[row] != GOOD:
            continue
        if same_suite:
            changes.append(_change("missing", pairs.base_side, row, GOOD, "absent"))
        else:
            _count(dropped, pairs.base_side, row)
    added: dict[str, int] = {}
    for row in map(int, pairs.only_new):
        if after[row] in BAD:
            changes.append(_change("new failure", pairs.new_side, row, "absent", str(after[row])))
        elif after[row] == GOOD:
            _count(added, pairs.new_side, row)
    changes.sort(key=lambda change: change.kind)
    return Outcomes(changes, still, dropped, added, _lossless(pairs, before, after))


def states(side: Side) -> NDArray[Any]:
    """Outcome of every row."""
    status = side.text("status")
    lossless = side.real("lossless")
    result = np.where(status == "ok", GOOD, status).astype(object)
    result[(status == "ok") & (lossless == 0.0)] = LOSSY
    result[(status == "ok") & np.isnan(lossless)] = UNVERIFIED
    return result


def outcome_kind(old: str, new: str) -> str:
    """What it is called that an outcome went from ``old`` to ``new``; empty where there is nothing to say."""
    if new in BAD:
        return "still failing" if old in BAD else "new failure"
    if old in BAD:
        return "recovered" if new == GOOD else "missing"
    return "missing" if old == GOOD and new in (SKIPPED, UNVERIFIED) else ""


def _change(kind: str, side: Side, row: int, old: str, new: str) -> Change:
    value = {name: side.table[name][row].as_py() for name in ("variant", "error_type", "error", "mismatch_line")}
    detail = ": ".join(str(value[name]) for name in ("error_type", "error") if value[name])
    if new == LOSSY:
        line = value["mismatch_line"]
        detail = f"{'a line' if line is None else f'line {line}'} did not come back bit for bit"
    return Change(kind, "measure", case_name(side, row), str(value["variant"]), old, new, detail)


def _count(tally: dict[str, int], side: Side, row: int) -> None:
    variant = str(side.table["variant"][row].as_py())
    tally[variant] = tally.get(variant, 0) + 1


def _lossless(
    pairs: Pairs, before: NDArray[Any], after: NDArray[Any]
) -> dict[str, tuple[tuple[int, int], tuple[int, int]]]:
    tallies: list[dict[str, tuple[int, int]]] = []
    for side, state in ((pairs.base_side, before), (pairs.new_side, after)):
        variants = side.text("variant")
        tally = {}
        for variant in dict.fromkeys(variants):
            own = state[variants == variant]
            measured = int(np.count_nonzero(np.isin(own, (GOOD, LOSSY, FAILED))))
            tally[str(variant)] = (int(np.count_nonzero(own == GOOD)), measured)
        tallies.append(tally)
    return {v: (tallies[0][v], tallies[1][v]) for v in tallies[1] if v in tallies[0]}
