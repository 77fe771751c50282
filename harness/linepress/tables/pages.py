"""What a codec makes of an engine's pages: ratios and slots by granularity, and what they are worth on links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from linepress.tables import format as fmt
from linepress.tables.model import Cell, Column, Row, RowGroup, Table, cell

Line = Mapping[str, Any]
COLUMNS = (
    Column("codec"),
    Column("unit"),
    Column("ratio", numeric=True, better="higher"),
    Column("own text", numeric=True, better="higher"),
    Column("keys", numeric=True, better="higher"),
    Column("values", numeric=True, better="higher"),
    Column("worst", numeric=True, better="higher"),
    Column("≤ 1/2", "%", numeric=True, better="higher"),
    Column("≤ 5/8", "%", numeric=True, better="higher"),
    Column("≤ 3/4", "%", numeric=True, better="higher"),
    Column("page out and back", "B", numeric=True, better="lower"),
    Column("grew", numeric=True, better="lower"),
    Column("encode", numeric=True, better="lower"),
    Column("decode", numeric=True, better="lower"),
    Column("lossless"),
)
LINK_COLUMNS = (
    Column("codec"),
    Column("unit"),
    Column("coder"),
    Column("link"),
    Column("GB/s", numeric=True),
    Column("speedup", numeric=True, better="higher"),
    Column("one page alone", numeric=True, better="higher"),
    Column("coders", numeric=True, better="lower"),
    Column("pays from", "B", numeric=True, better="lower"),
)


def page_table(rows: Sequence[Line]) -> Table:
    """Rows of `measure_pages`, a group a contract."""
    note = (
        "ratio: of lines the payload, of pages with line sizes (10 bits a line), of the whole with tables too. "
        "worst: of one unit. ≤: units that fit a slot of that share. grew: units whose code is longer than they are. "
        "keys, values: payload of lines. *: a sample of lines."
    )
    own = any(row["own_text_ratio"] is not None for row in rows)
    if own:
        note += " own text: ratio with tables of the snapshot itself."
    columns = tuple(column for column in COLUMNS if own or column.label != "own text")
    groups = _groups(rows, partial(_cells, own=own))
    return Table("pages-table", "Pages of serving engines", columns, groups, note, sortable=False)


def link_table(rows: Sequence[Line]) -> Table:
    """Rows of `offload.rows`, a group a contract."""
    note = (
        "speedup: plain over coded time while units stream; coders: as many as keep up with the link; one page "
        "alone: with the coders' latency in its way; pays from: message that gains despite it. card: blocks of "
        "hardware by the codec's card; core: cores of this machine, timed."
    )
    return Table(
        "page-links", "When a codec pays on a link", LINK_COLUMNS, _groups(rows, _link), note, sortable=False
    )


def _groups(rows: Sequence[Line], cells: Any) -> tuple[RowGroup, ...]:
    pages = {row["contract"]: row.get("page_bytes") for row in rows}
    return tuple(
        RowGroup(
            name if size is None else f"{name}, pages of {fmt.count(size)} B",
            tuple(Row(cells(row)) for row in rows if row["contract"] == name),
        )
        for name, size in pages.items()
    )


def _span(ns: float | None) -> Cell:
    s = None if ns is None else ns / 1e9
    return cell(fmt.seconds(s), s)


def _number(value: Any, text: str) -> Cell:
    return cell(fmt.ABSENT if value is None else text, fmt.number(value))


def _cells(row: Line, own: bool) -> tuple[Cell, ...]:
    ratios = ("ratio", *(["own_text_ratio"] if own else []), "key_ratio", "value_ratio", "worst_ratio")
    shares = [row[f"fits_{name}"] for name in ("half", "five_eighths", "three_quarters")]
    return (
        cell(row["codec"] + ("*" if row["sampled"] else ""), style="code", hint="a sample" if row["sampled"] else ""),
        cell(row["granularity"]),
        *(_number(row[key], fmt.ratio(row[key])) for key in ratios),
        *(_number(share, f"{100 * share:.1f}") for share in shares),
        _number(row["moved_bytes"], f"{row['moved_bytes']:,.0f}"),
        cell(fmt.count(row["grew"]), float(row["grew"]), "bad" if row["grew"] else ""),
        *(_span(row.get(key)) for key in ("encode_ns", "decode_ns")),
        cell("yes" if row["lossless"] else "NO", style="" if row["lossless"] else "bad"),
    )


def _link(row: Line) -> tuple[Cell, ...]:
    alone, least = row.get("one_page_speedup"), row["break_even_bytes"]
    return (
        cell(row["codec"], style="code"),
        cell(row["granularity"]),
        cell(row["coder"]),
        cell(row["link"]),
        _number(row["rate_GBps"], fmt.significant(row["rate_GBps"])),
        _number(row["speedup"], fmt.ratio(row["speedup"])),
        _number(alone, fmt.ratio(alone)),
        _number(row["coders"], fmt.count(row["coders"])),
        _number(least, f"{least or 0:,.0f}"),
    )
