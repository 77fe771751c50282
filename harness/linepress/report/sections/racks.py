"""Racks: memory, power and price with the measured ratio, and the published tables beside what follows from them."""

from __future__ import annotations

import numpy as np

from linepress.records.summary import best_line_variant
from linepress.report.view import RunView
from linepress.tables import format as fmt
from linepress.tables.model import Cell, Column, Row, RowGroup, Table, cell
from linepress.tables.ratios import number_cell


def tables(view: RunView) -> list[Table]:
    """Racks with the measured ratio, then the published tables with what contradicts them."""
    return [_derived(view), _published_total(), _published_space()]


def _derived(view: RunView) -> Table:
    """Memory, power and price of the known racks, without and with the measured ratio of the weights."""
    from linepress_hardware.racks.racks import derive, racks

    best = None
    for data, found in view.summaries.items():
        if data.title == "weights" and not data.cast and not data.origin and best is None:
            best = best_line_variant(found)
    ratio = best.packed_ratio if best is not None and np.isfinite(best.packed_ratio) else 1.0
    columns = (
        Column("rack"),
        Column("chips", numeric=True),
        Column("memory counted as"),
        Column("memory", "TB", True),
        Column("effective", "TB", True, "higher"),
        Column("bandwidth", "TB/s", True),
        Column("power", "kW", True),
        Column("power", "kW/TB", True, "lower"),
        Column("effective", "kW/TB", True, "lower"),
        Column("price", "kUSD/TB", True, "lower"),
        Column("effective", "kUSD/TB", True, "lower"),
    )
    out = []
    for one in racks().values():
        for r in derive(one, ratio, decompressor_keeps_up=False):
            standing = {k: r[k] for k in ("power_status", "price_status") if r[k]}
            cells = [
                cell(r["title"], hint=r["note"]),
                number_cell(r["chips"], fmt.count(r["chips"])),
                cell(f"{r['memory_basis']}, {r['tier']}"),
            ]
            for key in ("TB", "effective_TB", "TBps", "kW", "kW_per_TB", "effective_kW_per_TB"):
                hint = f"{standing.get('power_status', '')} {r['power_note']}".strip() if "kW" in key else ""
                cells.append(_rack_cell(r[key], hint))
            for key in ("kUSD_per_TB", "effective_kUSD_per_TB"):
                cells.append(_rack_cell(r[key], standing.get("price_status", "")))
            out.append(Row(tuple(cells)))
    by = f"{best.variant}, packed ratio {fmt.ratio(ratio)} on stored weights" if best is not None else "compression"
    note = (
        "Effective: the memory holds weights as measured here. Standing of each figure (sourced, seed, unverified): "
        "`linepress racks --json`; a price or a power that is only estimated ranks nothing."
    )
    return Table("racks-table", f"Racks without and with {by}", columns, (RowGroup("", tuple(out)),), note)


def _rack_cell(value: float | None, hint: str) -> Cell:
    v = float("nan") if value is None else float(value)
    return number_cell(v, fmt.significant(v), hint=hint)


def _published_total() -> Table:
    """The published table of memory a rack: the cell beside what its own note and published parts give."""
    from linepress_hardware.racks.tables import table_a

    found = table_a()
    columns = (
        Column("rack"),
        Column("printed", "TB", True),
        Column("chips it names", numeric=True),
        Column("published memory of a chip"),
        Column("follows", "TB", True, hint="chips that the table names × published capacity of one"),
        Column("standing"),
        Column("what contradicts the cell"),
    )
    out = []
    for r in found["rows"]:
        sentences = [f for f in found["findings"] if f.row == r["row"]]
        wrong = any(f.cell != "remark" for f in sentences)
        follows, chips = r["TB_at_seed_chips"], r["seed_chips_per_rack"]
        out.append(
            Row(
                (
                    cell(r["row"], hint=r["printed_note"]),
                    cell(r["printed"], sort=r["seed_TB_high"]),
                    number_cell(_nan(chips), fmt.count(chips)),
                    cell(f"{r['GB_per_chip_published']:g} GB {r['published_memory']}", hint=r["source"]),
                    number_cell(_nan(follows), fmt.plain(follows), "bad" if wrong and follows is not None else ""),
                    cell(r["status"]),
                    cell("; ".join(_without_name(f.sentence) for f in sentences) or "nothing", style="wrap"),
                )
            )
        )
    return Table(
        "racks-published-total",
        f"{found['title']}: printed, and what follows",
        columns,
        (RowGroup("", tuple(out)),),
        f"Source of the printed cells: {found['source']}.",
    )


def _published_space() -> Table:
    """The published comparison at equal rack space: each cell beside what the table's own figures give."""
    from linepress_hardware.racks.tables import table_b

    found = table_b()
    columns = (
        Column("component"),
        *(Column(name, numeric=True) for name in found["columns"]),
        Column("follows from"),
        Column("what contradicts the cell"),
    )
    out = []
    for r in found["rows"]:
        sentences = [f for f in found["findings"] if f.cell == r["key"]]
        cells = [cell(r["component"])]
        for name, printed, value in zip(found["columns"], r["printed"], r["computed"], strict=True):
            wrong = any(name in f.row.split(", ") for f in sentences)
            text = f"≠ {printed}\n{fmt.plain(value)} {r['unit'].replace('count', '')}".strip() if wrong else printed
            cells.append(cell(text, sort=None if value is None else float(value), style="bad two" if wrong else ""))
        formula = r["formula"].replace(" * ", " × ").replace("_", " ")
        cells += [cell(formula), cell("; ".join(f.sentence for f in sentences), style="wrap" if sentences else "")]
        out.append(Row(tuple(cells)))
    return Table(
        "racks-published-space",
        f"{found['title']}: printed, and below it what follows where that differs (≠)",
        columns,
        (RowGroup("", tuple(out)),),
        f"Source of the printed cells: {found['source']}.",
    )


def _without_name(sentence: str) -> str:
    return sentence.partition(": ")[2] or sentence


def _nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
