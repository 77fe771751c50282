"""The stages after ``measure``: simulated and computed, so as exact as bytes; each figure has a better direction.

A row whose plain figure (the same memory, accelerator or link without compression) changed was made by another model
of the hardware: it is not comparable, and the field says so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from linepress.compare.exact import BETTER, EQUAL, EXAMPLES, WORSE
from linepress.compare.outcomes import Change, outcome_kind
from linepress.compare.pairs import Incomparable
from linepress.records import RunStore

HIGHER, LOWER = 1, -1
SAME_REL = 1e-9
"""Two figures may differ by the rounding of another order of summation."""


@dataclass(frozen=True, slots=True)
class Stage:
    """How rows of a stage pair, what must be equal for that, and the figures with their better direction."""

    names: tuple[str, ...]
    fields: tuple[str, ...]
    figures: tuple[tuple[str, int], ...]


STAGES: dict[str, Stage] = {
    "channel": Stage(
        ("codec", "data", "format", "cast", "memory", "packing", "workload", "placement", "mode", "ecc_code"),
        (
            "seed",
            "n_requests",
            "lines",
            "plain_bandwidth_sequential_GBps",
            "plain_bandwidth_random_GBps",
            "plain_latency_mean_ns",
        ),
        (
            ("effective_capacity_ratio", HIGHER),
            ("effective_bandwidth_sequential_GBps", HIGHER),
            ("effective_bandwidth_random_GBps", HIGHER),
            ("effective_bandwidth_mixed_GBps", HIGHER),
            ("effective_bandwidth_workload_GBps", HIGHER),
            ("latency_mean_ns", LOWER),
            ("latency_p99_ns", LOWER),
            ("energy_pJ_per_useful_byte", LOWER),
            ("overflows", LOWER),
            ("ecc_silent", LOWER),
        ),
    ),
    "system": Stage(
        ("codec", "kv_codec", "format", "cast", "packing", "memory", "model", "accelerator", "scenario", "stage"),
        ("context_tokens", "batch", "devices", "scenario_precision", "plain_tokens_per_s", "plain_ttft_s"),
        (
            ("tokens_per_s", HIGHER),
            ("capacity_gain", HIGHER),
            ("largest_batch", HIGHER),
            ("ttft_s", LOWER),
            ("devices_needed", LOWER),
            ("energy_J_per_million_tokens", LOWER),
            ("cost_usd_per_million_tokens", LOWER),
        ),
    ),
    "fabric": Stage(
        (
            "codec",
            "data",
            "format",
            "cast",
            "packing",
            "accelerator",
            "topology",
            "operation",
            "algorithm",
            "devices",
            "size_bytes",
        ),
        ("method", "link", "plain_time_s"),
        (("time_s", LOWER),),
    ),
    "pages": Stage(
        ("source", "fit", "contract", "codec", "granularity"),
        ("units", "unit_bytes", "sampled"),
        (("ratio", HIGHER), ("worst_ratio", HIGHER), ("moved_bytes", LOWER), ("grew", LOWER)),
    ),
}


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One figure of a stage over all comparable rows.

    Attributes
    ----------
    better, worse, equal : int
        Rows.
    worst_pct, best_pct : float
        Largest change against and with the better direction, percent.
    """

    stage: str
    metric: str
    better: int
    worse: int
    equal: int
    worst_pct: float
    best_pct: float
    mark: str
    examples: tuple[str, ...] = ()

    @property
    def regressed_pct(self) -> float:
        """What the gate looks at."""
        return self.worst_pct


@dataclass(frozen=True, slots=True)
class Derived:
    """What the stages after ``measure`` say."""

    figures: list[Aggregate]
    changes: list[Change]
    incomparable: list[Incomparable]


def derived(base: RunStore, new: RunStore, same_suite: bool) -> Derived:
    """Compare channel, system and fabric rows of two runs."""
    result = Derived([], [], [])
    for name, stage in STAGES.items():
        if base.parts(name) or new.parts(name):
            _stage(name, stage, base, new, same_suite, result)
    return result


def _stage(name: str, stage: Stage, base: RunStore, new: RunStore, same_suite: bool, result: Derived) -> None:
    columns = [*stage.names, *stage.fields, *(figure for figure, _ in stage.figures), "status", "error_type", "error"]
    tables = [store.table(name, columns) for store in (base, new)]
    identities = [_identity(table, stage.names) for table in tables]
    found = pc.index_in(identities[1], value_set=identities[0]).to_pylist()
    labels = [[" ".join(part for part in text.split("\x1f") if part) for text in i.to_pylist()] for i in identities]
    for row, at in enumerate(found):
        old = "absent" if at is None else str(tables[0]["status"][at].as_py())
        status = str(tables[1]["status"][row].as_py())
        kind = outcome_kind(old, status)
        if kind in ("new failure", "recovered", "missing"):
            error = (tables[1][column][row].as_py() for column in ("error_type", "error"))
            detail = ": ".join(str(word) for word in error if word)
            codec = str(tables[1]["codec"][row].as_py() or "")
            result.changes.append(Change(kind, name, labels[1][row], codec, old, status, detail))
    gone = set(range(len(tables[0]))).difference(at for at in found if at is not None)
    for row in sorted(gone) if same_suite else ():
        if tables[0]["status"][row].as_py() == "ok":
            codec = str(tables[0]["codec"][row].as_py() or "")
            result.changes.append(Change("missing", name, labels[0][row], codec, "ok", "absent"))
    rows_new = np.array([row for row, at in enumerate(found) if at is not None], dtype=np.int64)
    rows_base = np.array([at for at in found if at is not None], dtype=np.int64)
    a, b = tables[0].take(rows_base), tables[1].take(rows_new)
    ok = pc.and_(pc.equal(a["status"], "ok"), pc.equal(b["status"], "ok")).to_numpy()
    comparable = ok & ~_mark_incomparable(name, stage, a, b, ok, result)
    shown = [labels[1][row] for row in rows_new]
    for metric, direction in stage.figures:
        figure = _figure(name, metric, direction, _real(a, metric), _real(b, metric), comparable, shown)
        if figure is not None:
            result.figures.append(figure)


def _mark_incomparable(
    name: str, stage: Stage, a: Any, b: Any, ok: NDArray[np.bool_], result: Derived
) -> NDArray[np.bool_]:
    tally: Counter[tuple[str, str, str, str]] = Counter()
    marked = np.zeros(len(ok), dtype=bool)
    codecs = a["codec"].to_pylist()
    for column in stage.fields:
        x, y = a[column].to_pylist(), b[column].to_pylist()
        for i in np.flatnonzero(ok & ~marked):
            if not _equal(x[i], y[i]):
                marked[i] = True
                tally[str(codecs[i] or name), f"{name}: {column}", _text(x[i]), _text(y[i])] += 1
    merged: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
    for (codec, field, before, after), cases in tally.most_common():
        merged.setdefault((codec, field), []).append((before, after, cases))
    for (codec, field), found in merged.items():
        before, after, _ = found[0]
        result.incomparable.append(Incomparable(codec, field, before, after, sum(n for _, _, n in found)))
    return marked


def _figure(
    stage: str,
    metric: str,
    direction: int,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    comparable: NDArray[np.bool_],
    labels: list[str],
) -> Aggregate | None:
    chosen = np.flatnonzero(comparable & np.isfinite(before) & np.isfinite(after))
    if not len(chosen):
        return None
    x, y = before[chosen], after[chosen]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(x == y, 0.0, (y - x) / np.abs(x))
    change[np.abs(change) <= SAME_REL] = 0.0
    gain = change * direction
    better, worse = int(np.count_nonzero(gain > 0)), int(np.count_nonzero(gain < 0))
    order = np.argsort(gain, kind="stable")[: min(worse, EXAMPLES)]
    examples = tuple(f"{labels[chosen[i]]} {x[i]:.6g} → {y[i]:.6g}" for i in order)
    return Aggregate(
        stage,
        metric,
        better,
        worse,
        len(chosen) - better - worse,
        100 * float(max(0.0, -gain.min())),
        100 * float(max(0.0, gain.max())),
        WORSE if worse else BETTER if better else EQUAL,
        examples,
    )


def _identity(table: Any, names: tuple[str, ...]) -> Any:
    columns = [pc.fill_null(table[name].cast(pa.string()).combine_chunks(), "") for name in names]
    return pc.binary_join_element_wise(*columns, "\x1f")


def _real(table: Any, name: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = table[name].cast(pa.float64(), safe=False).to_numpy()
    return values


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, float) and isinstance(y, float):
        return x == y or abs(x - y) <= SAME_REL * max(abs(x), abs(y))
    return bool(x == y)


def _text(value: Any) -> str:
    return "unknown" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
