"""The verdict over everything compared: PASS or FAIL, the reasons in words, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from linepress.compare.data import load_side
from linepress.compare.derived import Derived, derived
from linepress.compare.exact import Exact, exact
from linepress.compare.options import CompareOptions
from linepress.compare.outcomes import Change, Outcomes, outcomes
from linepress.compare.pairs import Incomparable, Pairs, pair
from linepress.compare.provenance import Provenance, provenance
from linepress.compare.retime import RetimePlan, requests, retime, this_python
from linepress.compare.sampled import SLOWER, Sampled, sampled
from linepress.compare.spread import spread_between_runs
from linepress.errors import EXIT_CASES_FAILED, EXIT_GATE_FAILED, EXIT_NOTHING_MEASURED, EXIT_OK
from linepress.records import RunStore
from linepress.records.place import RunPlace, same_place


@dataclass(frozen=True, slots=True)
class GateRow:
    """A threshold of the suite as the new run found it."""

    name: str
    metric: str
    rule: str
    threshold: float
    value: float | None
    passed: bool
    next_step: str


@dataclass(slots=True)
class Comparison:
    """Everything that two runs say about each other.

    Attributes
    ----------
    cases : int
        Cases whose figures were compared.
    failures : list of str
        Reasons for FAIL, in words with numbers.
    undecided : list of str
        Reasons why it could not be decided; without a failure the exit code is 2.
    """

    source: Provenance
    options: CompareOptions
    cases: int
    outcomes: Outcomes
    exact: list[Exact]
    derived: Derived
    sampled: Sampled
    incomparable: list[Incomparable]
    gates: list[GateRow]
    failures: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Nothing failed, and everything that had to be decided was."""
        return not self.failures and not self.undecided and self.compared

    @property
    def compared(self) -> bool:
        """Whether the runs had anything to compare."""
        return self.cases > 0 or any(figure.better or figure.worse or figure.equal for figure in self.derived.figures)

    @property
    def exit_code(self) -> int:
        if self.failures:
            return EXIT_GATE_FAILED
        if not self.compared:
            return EXIT_NOTHING_MEASURED
        return EXIT_CASES_FAILED if self.undecided else EXIT_OK

    @property
    def blind(self) -> bool:
        """Whether speeds were timed in both runs, and a change that matters could be seen in none of them."""
        timed = [speed for speed in self.sampled.speeds if not speed.control]
        return bool(timed) and not any(speed.judged(self.options.min_effect_pct) for speed in timed)

    @property
    def changes(self) -> list[Change]:
        """Changes of outcome of all stages."""
        return [*self.outcomes.changes, *self.derived.changes]


def compare_runs(
    base: RunPlace | str | RunStore,
    new: RunPlace | str | RunStore,
    options: CompareOptions | None = None,
    say: Callable[[str], None] = lambda text: None,
    speed_base: RunPlace | None = None,
) -> Comparison:
    """Compare the run ``new`` with the reference ``base``; ``say`` is told what takes time.

    Recorded speeds are held against ``speed_base`` where that is another run.

    Each is a folder, a place in a store, or a store that is open. Raises `RecordError` for a place that is not a run,
    a damaged part, or a record of another schema version.
    """
    options = options or CompareOptions()
    stores = RunStore.open(base), RunStore.open(new)
    sides = load_side(stores[0]), load_side(stores[1])
    pairs = pair(*sides)
    source = provenance(*sides, options.hosts_alike)
    later = derived(*stores, source.same_suite)
    if options.retime:
        plan = RetimePlan(sessions=options.sessions)
        speeds = retime(requests(pairs, plan), options.retime, this_python(), plan, options, say)
    else:
        place, pairs_of_speed, source_of_speed = stores[0].place, pairs, source
        if speed_base is not None and not same_place(speed_base, place):
            place, side = speed_base, load_side(speed_base)
            pairs_of_speed = pair(side, sides[1])
            source_of_speed = provenance(side, sides[1], options.hosts_alike)
        speeds = _recorded(pairs_of_speed, source_of_speed, options, (place, stores[1].place))
    found = Comparison(
        source=source,
        options=options,
        cases=int(pairs.comparable.sum()),
        outcomes=outcomes(pairs, source.same_suite),
        exact=exact(pairs),
        derived=later,
        sampled=speeds,
        incomparable=[*pairs.incomparable(), *later.incomparable],
        gates=suite_gates(stores[1]),
    )
    _decide(found, pairs)
    return found


def _recorded(pairs: Pairs, source: Provenance, options: CompareOptions, own: tuple[RunPlace, RunPlace]) -> Sampled:
    spread = spread_between_runs(options.history, exclude=own) if options.history else None
    return sampled(pairs, source, options, spread)


def suite_gates(store: RunStore) -> list[GateRow]:
    """The gates of the suite, as the run recorded them."""
    return [
        GateRow(
            name=str(row["gate"]),
            metric=str(row["metric"]),
            rule=str(row["rule"]),
            threshold=float(row["threshold"]),
            value=row["value"],
            passed=bool(row["passed"]),
            next_step=str(row["next_step"] or ""),
        )
        for row in store.rows("gates")
    ]


def _decide(found: Comparison, pairs: Pairs) -> None:
    options = found.options
    new_failures = [change for change in found.changes if change.kind == "new failure"]
    if new_failures:
        found.failures.append(counted(len(new_failures), "new failure"))
    _worsened(found, "exact figure", [e for e in found.exact if e.regressed_pct > options.allow_growth_pct])
    _worsened(
        found, "modelled figure", [f for f in found.derived.figures if f.regressed_pct > options.allow_growth_pct]
    )
    slower = [speed for speed in found.sampled.speeds if speed.mark == SLOWER]
    if slower:
        found.failures.append(f"{counted(len(slower), 'speed regression')} > {options.min_effect_pct:g} %")
    broken = [gate for gate in found.gates if not gate.passed]
    if broken:
        found.failures.append(
            f"{counted(len(broken), 'gate')} of the suite: {', '.join(gate.name for gate in broken)}"
        )
    missing = [change for change in found.changes if change.kind == "missing"]
    if missing:
        found.undecided.append(f"{counted(len(missing), 'case')} of base without a result in new")
    found.undecided += found.source.unfinished
    if options.strict and not any(speed.effect for speed in found.sampled.speeds):
        found.undecided.append(f"no speed could be judged: {found.sampled.why_not or 'too few tensors'} (--strict)")
    if not found.compared:
        why = "no case of one is a case of the other" if not len(pairs.base) else "no case has comparable results"
        found.undecided.append(f"nothing to compare: {why}")


def _worsened(found: Comparison, what: str, worse: Sequence[Exact | object]) -> None:
    if worse:
        allowed = found.options.allow_growth_pct
        tail = f" by more than {allowed:g} %" if allowed else ""
        found.failures.append(f"{counted(len(worse), what)} worse{tail}")


def counted(n: int, what: str) -> str:
    """``3 new failures``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
