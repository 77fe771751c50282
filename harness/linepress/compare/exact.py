"""Exact metrics of the measure stage: bits, bytes, losslessness. Any change is a change; nothing is averaged away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress.compare.pairs import Pairs, by_variant, case_name

WORSE, BETTER, CHANGED, EQUAL = "+", "-", "", "="
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Exact:
    """One exact figure of one variant over all comparable tensors.

    Attributes
    ----------
    variant, metric, unit : str
    base, new : float | None
        Totals; None for what has no total (the distribution of line sizes).
    better, worse, equal : int
        Tensors; a smaller figure is better. For what has no direction, ``worse`` counts what differs.
    mark : str
        ``+`` worse, ``-`` better, ``=`` equal, empty for a change that is neither.
    examples : tuple of str
        Tensors that got worse most, or that differ.
    """

    variant: str
    metric: str
    unit: str
    base: float | None
    new: float | None
    better: int
    worse: int
    equal: int
    mark: str
    examples: tuple[str, ...] = ()

    @property
    def change_pct(self) -> float | None:
        """Change of the total, percent."""
        return None if self.base in (None, 0) or self.new is None else 100 * (self.new / float(self.base or 1) - 1)

    @property
    def regressed_pct(self) -> float:
        """What the gate looks at: growth of the total, in percent; where that did not grow, nothing."""
        if self.mark != WORSE:
            return 0.0
        change = self.change_pct
        return max(change, 0.0) if change is not None else float("inf")


def exact(pairs: Pairs) -> list[Exact]:
    """Every exact figure of every variant, over the pairs that may be compared."""
    chosen = np.flatnonzero(pairs.comparable)
    found: list[Exact] = []
    if not len(chosen):
        return found
    base, new = pairs.base_side, pairs.new_side
    sized = [
        ("payload", "B", base.real("payload_bits") / 8, new.real("payload_bits") / 8),
        ("tables", "B", base.real("table_bytes"), new.real("table_bytes")),
        *((f"packed {p}", "B", base.packed[p], new.packed[p]) for p in base.packed if p in new.packed),
    ]
    bounds = base.real("bound_bits_per_value"), new.real("bound_bits_per_value")
    for variant, at in by_variant(new, pairs.new[chosen]).items():
        rows_base, rows_new = pairs.base[chosen[at]], pairs.new[chosen[at]]
        for name, unit, before, after in sized:
            one = _sized(pairs, variant, name, unit, before[rows_base], after[rows_new], rows_new)
            if one is not None:
                found.append(one)
        differs = base.digest[rows_base] != new.digest[rows_new]
        found.append(_unordered(pairs, variant, "distribution of line sizes", differs, rows_new))
        a, b = bounds[0][rows_base], bounds[1][rows_new]
        found.append(_unordered(pairs, variant, "entropy bound", ~_same(a, b), rows_new))
    return found


def _sized(
    pairs: Pairs,
    variant: str,
    name: str,
    unit: str,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    rows: NDArray[np.int64],
) -> Exact | None:
    both = ~(np.isnan(before) | np.isnan(after))
    if not both.any():
        return None
    before, after, rows = before[both], after[both], rows[both]
    change = after - before
    better, worse = int(np.count_nonzero(change < 0)), int(np.count_nonzero(change > 0))
    total = float(change.sum())
    mark = EQUAL if not (better or worse) else WORSE if total > 0 or (total == 0 and worse) else BETTER
    largest = np.argsort(-change, kind="stable")[: min(worse, EXAMPLES)]
    examples = tuple(f"{case_name(pairs.new_side, int(rows[i]))} +{change[i]:,.0f} {unit}" for i in largest)
    return Exact(
        variant,
        name,
        unit,
        float(before.sum()),
        float(after.sum()),
        better,
        worse,
        len(change) - better - worse,
        mark,
        examples,
    )


def _unordered(pairs: Pairs, variant: str, name: str, differs: NDArray[np.bool_], rows: NDArray[np.int64]) -> Exact:
    where = np.flatnonzero(differs)
    examples = tuple(case_name(pairs.new_side, int(rows[i])) for i in where[:EXAMPLES])
    mark = CHANGED if len(where) else EQUAL
    return Exact(variant, name, "", None, None, 0, len(where), len(differs) - len(where), mark, examples)


def _same(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Equal up to the rounding of a different order of summation."""
    return np.isclose(a, b, rtol=1e-9, atol=0.0, equal_nan=True)
