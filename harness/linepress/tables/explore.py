"""Tables of a design-space search: the front of each memory, with the default beside it."""

from __future__ import annotations

from collections.abc import Sequence

from linepress.explore.record import default_of
from linepress.explore.trial import Trial, front
from linepress.tables import format as fmt
from linepress.tables.model import Cell, Column, Row, RowGroup, Table, cell

COLUMNS = (
    Column("trial", numeric=True),
    Column("codec"),
    Column("packing"),
    Column("metadata cache", numeric=True, better="lower"),
    Column("queues", "atoms", numeric=True, hint="0: those of the plain channel at its best"),
    Column("decoders", numeric=True, better="lower"),
    Column("capacity", "x", numeric=True, better="higher"),
    Column("sequential", "x", numeric=True, better="higher", hint="over the plain channel at its best"),
    Column("random", "x", numeric=True, better="higher", hint="over the plain channel at its best"),
    Column("p99", "ns", numeric=True, better="lower"),
    Column("area", "mm²", numeric=True, better="lower"),
    Column(""),
)


def front_table(trials: Sequence[Trial], picked: Sequence[int]) -> Table:
    """The front of every memory, most capacity first, and the default where it is not on it."""
    on_front = front(trials)
    groups = []
    for memory in dict.fromkeys(t.point.memory for t in trials):
        default = default_of(trials, memory)
        mine = [t for t in on_front if t.point.memory == memory]
        shown = mine if default in mine or default.error else [*mine, default]
        ordered = sorted(shown, key=lambda t: (-t.capacity_ratio, t.area_mm2, t.number))
        groups.append(RowGroup(memory, tuple(_row(t, default, t in mine, t.number in picked) for t in ordered)))
    note = "gains ± half-width of their 95 % interval; random below 1 is what metadata and straddled atoms cost."
    return Table("explore", "Pareto front of the search", COLUMNS, tuple(groups), note)


def _row(trial: Trial, default: Trial, on_front: bool, picked: bool) -> Row:
    marks = [
        *(["look"] if picked else []),
        *(["default"] if trial is default else []),
        *([] if on_front else ["dominated"]),
        *(["dominates default"] if not default.error and trial.dominates(default) else []),
    ]

    def gain(value: float, wide: float) -> Cell:
        return cell(f"{fmt.ratio(value)} ± {100 * wide:.1f} %", value)

    p = trial.point
    return Row(
        (
            cell(str(trial.number), trial.number),
            cell(p.codec),
            cell(p.packing),
            cell(f"{p.metadata_cache_bytes / 1024:g} KiB", p.metadata_cache_bytes),
            cell(str(p.queue), p.queue),
            cell(str(trial.decoder_count), trial.decoder_count),
            cell(fmt.ratio(trial.capacity_ratio), trial.capacity_ratio),
            gain(trial.gain_sequential, trial.half_width_sequential),
            gain(trial.gain_random, trial.half_width_random),
            cell(fmt.significant(trial.latency_p99_ns), trial.latency_p99_ns),
            cell(fmt.significant(trial.area_mm2), trial.area_mm2),
            cell(", ".join(marks)),
        ),
        style="best" if picked else "",
    )
